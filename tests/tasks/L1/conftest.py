"""Fixtures for operators: Triton's interpreter in one process a session, and compilation for Hopper without a GPU."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
BASELINE = ROOT / "tasks" / "baseline" / "L1"


@dataclass
class Interpreter:
    """A process with TRITON_INTERPRET=1 that runs `forward_cuda` on CPU tensors."""

    process: subprocess.Popen[bytes]

    def __call__(
        self,
        op: torch.nn.Module,
        init: dict[str, Any],
        inputs: dict[str, Any],
        *,
        source: Path | None = None,
        replace: tuple[tuple[str, str], ...] = (),
        settings: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """(outputs, inputs after the call) of op's class, read from its file with `replace` applied, settings set."""
        request = {
            "source": str(source or sys.modules[type(op).__module__].__file__),
            "class": type(op).__name__, "init": init, "state": op.state_dict(), "inputs": inputs, "replace": replace,
            "settings": settings or {},
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save(request, buffer)
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(len(buffer.getvalue()).to_bytes(8, "big") + buffer.getvalue())
        stdin.flush()
        answer = stdout.read(int.from_bytes(stdout.read(8), "big"))
        kind, payload = torch.load(io.BytesIO(answer), weights_only=False)
        assert kind == "done", payload
        return payload


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """Triton's interpreter; about three seconds to start, once a session."""
    pytest.importorskip("triton")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("interpreter_worker.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
    )  # fmt: skip
    yield Interpreter(process)
    process.communicate(timeout=30)


@dataclass(frozen=True)
class Compiled:
    """A kernel compiled for Hopper."""

    ptx: str
    cubin: bytes = field(repr=False)


@pytest.fixture(scope="session")
def compile_for_hopper(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Compiled]:
    """compile(kernel, types, constants, num_warps) for compute capability 9.0, pointers and strides multiples of 16."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def compile_kernel(kernel: Any, types: dict[str, str], constants: dict[str, Any], num_warps: int = 4) -> Compiled:
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else types[name] for name in names}
        values = {(names.index(name),): value for name, value in constants.items()}
        aligned = {
            (names.index(name),): [["tt.divisibility", 16]]
            for name, kind in types.items()
            if name not in constants and (kind.startswith("*") or kind == "i32")
        }
        source = ASTSource(kernel, signature, values, aligned)
        target = GPUTarget("cuda", 90, 32)
        compiled = triton.compile(source, target=target, options={"num_warps": num_warps})
        return Compiled(compiled.asm["ptx"], compiled.asm["cubin"])

    patch = pytest.MonkeyPatch()
    patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
    yield compile_kernel
    patch.undo()
