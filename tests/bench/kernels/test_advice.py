"""The second line of a message: what to do, where the cause is known, and nothing where it is not."""

import pytest

from fastkernels.bench.kernels.advice import advised
from fastkernels.results import Verdict

OVERWRITTEN = ("forward raised RuntimeError: Error: accessing tensor output of CUDAGraphs that has been overwritten by "
               "a subsequent run. Stack trace: File \"silu_and_mul.py\", line 9, in forward.")


@pytest.mark.parametrize(("verdict", "message", "evidence", "says"), [
    (Verdict.ALIASED_OUTPUT, "output shares memory with that of the previous call", "", "use mode='default'"),
    (Verdict.FORWARD_ERROR, OVERWRITTEN, "", "clone the output"),
    (Verdict.IMPORT_ERROR, "import raised RuntimeError: Ninja is required to load C++ extensions", "", "on PATH"),
    (Verdict.IMPORT_ERROR, "import raised OSError: CUDA_HOME environment variable is not set.", "", "CUDA_HOME"),
    (Verdict.FORWARD_ERROR, "forward raised OutOfResources: out of resource: shared memory, Required: 300000", "",
     "fewer stages"),
    (Verdict.FORWARD_ERROR, "forward raised BackendCompilerFailed: backend='inductor' raised:",
     "OutOfResources: out of resource: shared memory", "fewer stages"),
])
def test_a_known_cause_has_advice(verdict, message, evidence, says):
    first, second = advised(verdict, message, evidence).split("\n")
    assert first == message
    assert says in second


@pytest.mark.parametrize(("verdict", "message"), [
    (Verdict.ALIASED_OUTPUT, "output shares memory with input x"),
    (Verdict.WRONG_VALUES, "output: expected 1, got 2 (that of the previous call)"),
    (Verdict.FORWARD_ERROR, "forward raised ZeroDivisionError: division by zero"),
    (Verdict.PASSED, ""),
])
def test_an_unknown_one_has_none(verdict, message):
    assert advised(verdict, message, "") == message
