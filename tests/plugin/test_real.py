"""Whole runs with the library's grader, on the CPU: few, since each starts two processes with torch."""

import hashlib
import json

import pytest

from fastkernels.results import Verdict, read_result

FAST = ("--fk-target=rms_norm", "--fk-device=cpu", "--fk-no-timing")


def verdicts(project) -> dict[str, Verdict]:
    return {r.id: r.verdict for r in read_result(project.path / "bench/results/kernels.json").results}


def test_a_self_test_passes_with_timings_and_equal_shapes_are_graded_once(bare):
    bare.run("--fk-target=rms_norm", "--fk-device=cpu", "--fk-num-runs=5", "--fk-max-time=0.2",
             "--benchmark-json=out.json").assert_outcomes(passed=6, deselected=2)
    found = read_result(bare.path / "bench/results/kernels.json")
    assert [r.self_test for r in found.results] == [True] * 6
    timed = [r for r in found.results if r.timing is not None and r.timing.candidate_samples_s]
    assert all(r.noise is not None for r in found.results if r not in timed)  # other load may have left no times
    shared = {r.id: r.shared_with for r in found.results if r.shared_with}
    assert shared == {f"rms_norm[tiny-a-tp2-s{t}]": f"rms_norm[tiny-a-tp1-s{t}]" for t in (1, 8)}
    assert {left.id for left in found.left_out} == {f"rms_norm[tiny-a-tp{tp}-s2048]" for tp in (1, 2)}
    assert found.environment
    assert len(json.loads((bare.path / "out.json").read_text())["benchmarks"]) == len(timed)


@pytest.mark.parametrize("xdist", [(), ("-n2",)])
def test_a_right_and_a_wrong_candidate(bare, rms_norm, xdist):
    bare.candidate()
    bare.run(*FAST, "--fk-candidates=kernels", *xdist).assert_outcomes(
        passed=6, **({} if xdist else {"deselected": 2}))
    found = read_result(bare.path / "bench/results/kernels.json")
    assert not any(r.self_test for r in found.results)
    assert [(k.op, k.level, k.code) for k in found.kernels] == [("rms_norm", 1, rms_norm)]
    assert found.kernels[0].sha256 == hashlib.sha256(rms_norm.encode()).hexdigest()
    bare.candidate(text=rms_norm.replace(
        "return normed.to(x.dtype) if", "normed[..., -1] = 0\n        return normed.to(x.dtype) if"))
    result = bare.run(*FAST, "--fk-candidates=kernels", "--fk-model=tiny-b", *xdist)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["wrong_values: output (element *, 31): expected *, got 0 *", "allowed: atol *",
                                 "candidate: *",
                                 "reproduce: *--fk-candidates=kernels *--fk-seed=*"])
    assert set(verdicts(bare).values()) == {Verdict.WRONG_VALUES}


def test_the_reproducing_command_reproduces(bare, rms_norm):
    bare.candidate(text=rms_norm.replace("self.eps)", "0.1)"))
    first = bare.run(*FAST, "--fk-candidates=kernels", "--fk-model=tiny-b", "--fk-seqlen=8")
    worst = next(line for line in first.outlines if line.startswith("wrong_values: "))
    command = next(line for line in first.outlines if line.startswith("reproduce: "))
    words = [word.strip("'") for word in command.split() if word.startswith(("'rms_norm[", "--fk"))]
    again = bare.run(*[w for w in words if "manifest" not in w])
    again.assert_outcomes(failed=1)
    assert worst in again.outlines


def test_the_results_hold_helpers_too_and_a_file_as_it_was_graded(bare, rms_norm):
    bare.candidate("_scale", "EPS = 1e-6\n")
    bare.candidate(text=rms_norm.replace("from torch import nn\n", "from torch import nn\n\nfrom ._scale import EPS\n"))
    (bare.path / "conftest.py").write_text(
        "def pytest_sessionfinish():\n    open('kernels/L1/rms_norm.py', 'a').write('# edited since')\n")
    bare.run(*FAST, "--fk-candidates=kernels", "--fk-model=tiny-b", "--fk-seqlen=8").assert_outcomes(passed=1)
    found = read_result(bare.path / "bench/results/kernels.json")
    assert [k.op for k in found.kernels] == ["_scale", "rms_norm"]
    assert "edited" not in found.kernels[1].code


def test_one_broken_candidate_of_two_fails_and_the_other_is_graded(bare):
    bare.candidate()
    bare.candidate("silu_and_mul", "class SiluAndMul(:\n")
    result = bare.run("--fk-level=1", "--fk-device=cpu", "--fk-candidates=kernels", "--fk-no-timing")
    result.assert_outcomes(passed=6, failed=1, deselected=2)
    result.stdout.fnmatch_lines(["syntax_error: *silu_and_mul.py*"])


def test_resume_grades_what_is_missing(bare):
    bare.run(*FAST, "-k", "s1", "--fk-seed=1").assert_outcomes(passed=3, deselected=5)
    bare.run(*FAST, "--fk-resume", "--fk-seed=2").assert_outcomes(passed=6, deselected=2)
    found = read_result(bare.path / "bench/results/kernels.json").results
    assert {r.id.split("-")[-1]: r.seed for r in found} == {"s1]": 1, "s8]": 2}
    bare.run(*FAST, "--fk-seed=3").assert_outcomes(passed=6, deselected=2)
    assert {r.seed for r in read_result(bare.path / "bench/results/kernels.json").results} == {3}
