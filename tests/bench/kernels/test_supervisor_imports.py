"""The process that grades imports no torch: its start is quick, and nothing of a candidate's lives there."""

import subprocess
import sys

GRADES = """
import sys
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import Selection, load_manifest

chosen = Selection(targets=("rotary_emb",), models=("llama32-1b",), tps=(1,), seqlens=(8,))
with KernelGrader(GraderSettings(device="cpu", self_test=True, timing=False)) as grader:
    found = [grader.grade(scenario) for scenario in load_manifest().scenarios(chosen)]
assert found and all(result.verdict.ok for result in found), found
print(sorted({"torch", "triton", "numpy"} & set(sys.modules)))
"""


def test_grading_imports_no_torch_in_the_supervisor():
    done = subprocess.run([sys.executable, "-c", GRADES], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stdout + done.stderr
