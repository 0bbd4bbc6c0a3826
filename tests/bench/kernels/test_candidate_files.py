"""A grader notices that a file beside a candidate has changed, and keeps no result across that."""

import os

import pytest
from results_by_hand import passed, rms_norm

from fastkernels.bench.kernels.candidates import CandidateFiles
from fastkernels.bench.kernels.grader import KernelGrader
from fastkernels.bench.kernels.log import start_log
from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.registry.operators import baseline_root


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "mine" / "L1" / "_csrc").mkdir(parents=True)
    (tmp_path / "mine" / "L1" / "rms_norm.py").write_text((baseline_root() / "L1" / "rms_norm.py").read_text())
    (tmp_path / "mine" / "L1" / "_csrc" / "norm.cu").write_text("one")
    return tmp_path / "mine"


def test_a_changed_cuda_source_is_another_candidate(directory):
    files = CandidateFiles(directory, self_test=False)
    first = files.reached("L1.rms_norm")
    assert not files.refresh()
    source = directory / "L1" / "_csrc" / "norm.cu"
    before = source.stat()
    source.write_text("two")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))  # as an unpacked archive may have it
    assert files.refresh()
    assert files.reached("L1.rms_norm").fingerprint != first.fingerprint
    source.unlink()
    assert files.refresh()


def test_a_resumed_run_keeps_no_result_of_a_cuda_source_that_is_gone(directory, tmp_path):
    log = tmp_path / "log.jsonl"
    start_log(log)
    settings = GraderSettings(device="cpu", candidates_dir=directory, timing=False)
    grader = KernelGrader(settings, log)
    scenario = rms_norm()
    grader._log.append(grader._conditions(grader._reached(scenario)), passed(scenario))
    assert KernelGrader(settings, log).finished(scenario) is not None
    (directory / "L1" / "_csrc" / "norm.cu").write_text("two")
    assert KernelGrader(settings, log).finished(scenario) is None
    assert grader.finished(scenario) is None
