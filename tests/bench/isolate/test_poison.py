"""What is filled before judged calls: shared memory, registers and freed blocks (CUDA), and the kernel that does it."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import torch

from fastkernels.bench.isolate.poison import MOST_BYTES, PATTERNS, THREADS, VALUES, Poison, kernel_text, pattern

REDTEAM = Path(__file__).resolve().parents[2] / "redteam"
REGISTERS = 65536
"""Of a multiprocessor."""


def assembler():
    import triton
    found = sorted(Path(triton.__file__).parent.glob("backends/nvidia/bin/ptxas"))
    assert found, "triton brings no ptxas along"
    return found[0]


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_the_kernel_holds_its_values_in_registers_all_at_once(tmp_path, arch):
    source = tmp_path / "fill.ptx"
    source.write_text(kernel_text())
    done = subprocess.run([assembler(), "-v", f"-arch={arch}", source, "-o", tmp_path / "fill.cubin"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores" in done.stderr
    used = int(re.search(r"Used (\d+) registers", done.stderr)[1])
    assert VALUES <= used <= 255
    assert 0.8 * REGISTERS < used * THREADS <= REGISTERS


def test_every_pattern_is_nan_in_every_float_dtype():
    for bits in PATTERNS:
        word = torch.tensor([bits], dtype=torch.int64).to(torch.int32)
        assert all(word.view(dtype).isnan().all() for dtype in (torch.bfloat16, torch.float16, torch.float32))


def test_patterns_are_secret_and_nan_in_turns():
    drawn = [pattern() for _ in range(60)]
    assert set(drawn) > set(PATTERNS)
    assert all(0 <= bits < 2**32 for bits in drawn)


def test_nothing_is_done_on_a_cpu():
    Poison(torch.device("cpu")).before_call([4096])


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RMSNorm(128, dtype=torch.bfloat16).cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [*PATTERNS, 0x12345678])
def test_shared_memory_holds_the_pattern_where_a_kernel_does_not_write_it(bits):
    poison = Poison(torch.device("cuda"))
    for name, due in (("cases/numerics/shared_memory_not_written", 1), ("twins/shared_memory_cleared", 0)):
        kernel, flag = load(REDTEAM / f"{name}.py"), torch.zeros(1, dtype=torch.int32, device="cuda")
        poison.fill_multiprocessors(bits)
        kernel._look(flag, 256)
        assert flag.item() == due, name


@pytest.mark.gpu
def test_with_zeros_filled_in_the_same_kernel_sees_nothing():
    flag = torch.zeros(1, dtype=torch.int32, device="cuda")
    kernel, poison = load(REDTEAM / "cases/numerics/shared_memory_not_written.py"), Poison(torch.device("cuda"))
    poison.fill_multiprocessors(0)
    kernel._look(flag, 32)
    assert flag.item() == 0


@pytest.mark.gpu
def test_memory_of_a_known_size_is_handed_out_filled():
    size = 3 * 1024 * 1024 + 512
    Poison(torch.device("cuda")).before_call([size, MOST_BYTES + 1])
    assert (torch.empty(size, dtype=torch.uint8, device="cuda") == 255).all()
