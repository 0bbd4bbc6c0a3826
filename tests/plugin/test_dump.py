"""`--fk-dump`: the call that went wrong, with a script that shows it."""

import subprocess
import sys

import pytest
import torch

from fastkernels.bench.isolate.dump import write_call


def shown_by(script) -> list[str]:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_failing_calls_are_written_with_a_script_that_shows_the_worst_element(bare, rms_norm):
    bare.candidate(text=rms_norm.replace("return normed.to(x.dtype) if",
                                         "normed[..., -1] = 0\n        return normed.to(x.dtype) if"))
    bare.candidate("silu_and_mul", "from torch import nn\n\n\nclass SiluAndMul(nn.Module):\n"
                                   "    def forward(self, x):\n        raise ValueError('not today')\n")
    run = bare.run("--fk-level=1", "--fk-model=tiny-a", "--fk-tp=1", "--fk-seqlen=1", "--fk-device=cpu",
                   "--fk-no-timing", "--fk-candidates=kernels", "--fk-dump=calls")
    run.assert_outcomes(failed=2)
    run.stdout.fnmatch_lines(["wrong_values: *",
                              "the call that went wrong: python calls/rms_norm/tiny-a-tp1-s1/show.py"])
    folder = bare.path / "calls" / "rms_norm" / "tiny-a-tp1-s1"
    title, worst = shown_by(folder / "show.py")
    assert title.startswith("rms_norm[tiny-a-tp1-s1]: wrong_values: output (element ")
    assert "output[0, 63]: expected " in worst
    assert ", given 0, error ratio " in worst
    assert "1 of 64 over atol 0.01 + rtol 0.016 |expected|" in worst
    call = torch.load(folder / "call.pt", weights_only=True)
    assert (call["inputs"]["x"].shape, call["weights"]["weight"].shape) == ((1, 64), (64,))
    assert call["scenario"]["op"] == "rms_norm"
    assert len((folder / "show.py").read_text().splitlines()) < 20
    raised = torch.load(bare.path / "calls" / "silu_and_mul" / "tiny-a-tp1-s1" / "call.pt", weights_only=True)
    assert raised["given"] == {}
    assert raised["expected"]["output"].shape == (1, 32)


def test_nothing_wrong_is_said(project):
    shown = project.run("--fk-target=silu_and_mul", "--fk-dump=calls")
    shown.stdout.fnmatch_lines(["--fk-dump: no call went wrong, nothing was written"])


def test_a_directory_that_cannot_be_made_is_one_line(project):
    (project.path / "calls").write_text("a file")
    shown = project.run("--fk-target=silu_and_mul", "--fk-dump=calls")
    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    shown.stderr.fnmatch_lines(["ERROR: --fk-dump: cannot write to *calls: File exists"])


def test_the_script_copes_with_other_shapes_nan_and_quotes(tmp_path):
    script = write_call(tmp_path / "a folder", 'say """\\N{x}', {
        "tolerances": {"output": (0.01, 0.016), "ids": (0.5, 0.0), "rest": (0.01, 0.0)},
        "expected": {"output": torch.ones(2, 2), "ids": torch.tensor([1, 2]), "rest": torch.ones(3)},
        "given": {"output": torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]), "ids": torch.tensor([1, 3])}})
    lines = shown_by(script)
    assert lines[1] == ("output[1, 0]: expected 1, given nan, error ratio nan; "
                        "2 of 4 over atol 0.01 + rtol 0.016 |expected|")
    assert lines[2] == "ids[1]: expected 2, given 3, error ratio 2; 1 of 2 over atol 0.5 + rtol 0 |expected|"
    assert lines[3] == "rest: expected [3], given None"
