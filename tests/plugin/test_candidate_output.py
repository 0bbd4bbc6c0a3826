"""What a candidate prints, and where one hangs: in the failure, live with -s, in JUnit's file."""

import pytest

from fastkernels.bench.isolate.stacks import HEAD, own_frames
from fastkernels.bench.kernels import said
from fastkernels.bench.kernels.said import Said, printable

PRINTS = """\
import sys
import warnings

print("at import")


def say(x):
    print("called with", tuple(x.shape), "\\x1b[31m")
    warnings.warn("look out", stacklevel=2)
    sys.stderr.write("on stderr\\n")
    return 0


"""
HANGS = """\
from torch import nn


class SiluAndMul(nn.Module):
    def forward(self, x):
        print("waiting")
        return self.wait_for_ever()

    def wait_for_ever(self):
        while True:
            pass
"""


def test_prints_warnings_and_stderr_are_in_the_failure_and_live_and_a_hang_shows_its_stack(bare, rms_norm):
    bare.candidate(text=PRINTS + rms_norm.replace("* self.weight.float()", "* say(x)"))
    bare.candidate("silu_and_mul", HANGS)
    result = bare.run("--fk-level=1", "--fk-model=tiny-a", "--fk-tp=1", "--fk-seqlen=1", "--fk-device=cpu", "-s",
                      "--fk-no-timing", "--fk-candidates=kernels", "--fk-timeout=1.5", "--junitxml=junit.xml",
                      "-o", "junit_logging=system-out")
    result.assert_outcomes(failed=2)
    printed = ["at import", r"called with (1, 64) \x1b[31m", "*UserWarning: look out", "on stderr"]
    live, after = result.stdout.str().split("= FAILURES =", 1)
    assert "rms_norm[tiny-a-tp1-s1]     wrong_values" in live, "rows are printed all the same"
    for text in (live, after, (bare.path / "junit.xml").read_text()):
        pytest.LineMatcher(text.replace("<system-out>", "\n").splitlines()).fnmatch_lines(
            [f"*{line.replace('[', '[[]')}*" for line in printed])
    pytest.LineMatcher(after.splitlines()).fnmatch_lines([
        "hung: no answer within 1.5 s (call)", f"    {HEAD}", "*kernels/L1/silu_and_mul.py*, line 10 in wait_for_ever",
        "*kernels/L1/silu_and_mul.py*, line 7 in forward", "reproduce: *",
        "*- Captured stdout from the candidate -*", "waiting"])
    assert "baseline_worker" not in after
    assert "candidate_worker" not in after


def test_a_crash_shows_what_was_printed_before_it_once(bare, rms_norm):
    bare.candidate(text="import os\n" + rms_norm.replace(
        "normed = ", "print('last words')\n        os.abort()\n        normed = "))
    result = bare.run("--fk-target=rms_norm", "--fk-model=tiny-b", "--fk-seqlen=1", "--fk-no-timing", "--fk-device=cpu",
                      "--fk-candidates=kernels")
    result.stdout.fnmatch_lines(["crashed: *", "*- Captured stdout from the candidate -*", "last words"])
    assert result.stdout.str().count("last words") == 1


FOREIGN = """\
Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007f02 (most recent call first):
  File "/usr/lib/python3.11/site-packages/torch/nn/functional.py", line 9 in linear
  File "/home/me/kernels/L1/linear.py", line 12 in forward
  File "<frozen runpy>", line 88 in _run_code
"""


def test_a_stack_has_the_candidates_frames_alone():
    assert own_frames(FOREIGN).splitlines() == [HEAD, '  File "/home/me/kernels/L1/linear.py", line 12 in forward']
    assert own_frames(FOREIGN.replace("/home/me/kernels", "/usr/lib/python3.11")) == ""


def test_of_much_output_the_last_is_kept(monkeypatch):
    monkeypatch.setattr(said, "KEPT", 20)
    heard = []
    gathered = Said(heard.append)
    for number in range(10):
        gathered.add(f"line {number}\n")
    assert gathered.take() == "(50 characters before are left out)\nine 7\nline 8\nline 9"
    assert "".join(heard).count("line") == 10
    assert gathered.take() == ""


def test_nothing_that_commands_a_terminal_is_printed():
    assert printable("a\x1b]0;title\x07b\r\nc\udcff\td\x9b1m") == "a\\x1b]0;title\\x07b\nc\\udcff\td\\x9b1m"
