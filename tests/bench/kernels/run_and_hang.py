"""Grades a right scenario and then one that hangs, for a test that kills this process."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader

log, candidates = map(Path, sys.argv[1:])
grader = KernelGrader(GraderSettings(device="cpu", timing=False, candidates_dir=candidates), log)
grader.grade(rms_norm(hidden=32))
grader.grade(rms_norm(hidden=50))
