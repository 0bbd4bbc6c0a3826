import torch

from fastkernels.bench.grade.oracle import Oracle, oracle_dtype
from fastkernels.runtime.op import Op
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm


def test_half_precision_is_judged_in_float32_and_float32_in_float64():
    ids = {"ids": torch.zeros(2, dtype=torch.int64)}
    half = torch.ones(2, 8, dtype=torch.bfloat16)
    assert oracle_dtype(RMSNorm(8, dtype=torch.bfloat16), {"x": half}) == torch.float32
    assert oracle_dtype(RMSNorm(8, dtype=torch.float32), {"x": torch.ones(2, 8)}) == torch.float64
    assert oracle_dtype(RMSNorm(8, dtype=torch.float16), ids) == torch.float32
    assert oracle_dtype(Op(), ids) == torch.float32


def test_the_oracle_leaves_module_and_inputs_alone_and_runs_natively():
    class Writes(RMSNorm):
        def forward_native(self, x, n):
            x += 1
            assert self.weight.dtype == x.dtype == torch.float32
            assert torch.get_float32_matmul_precision() == "highest"
            return x

        def forward(self, x, n):
            assert self.native_only, "the production path"
            return self.forward_native(x, n)

    module = Writes(8, dtype=torch.bfloat16)
    x = torch.ones(2, 8, dtype=torch.bfloat16)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        outputs, after = Oracle(module, {"x": x})({"x": x, "n": 3})
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert module.weight.dtype == torch.bfloat16
    assert (x == 1).all()
    assert (outputs == 2).all()
    assert (after["x"] == 2).all()
    assert after["n"] == 3
