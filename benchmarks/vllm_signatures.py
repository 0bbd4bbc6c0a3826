#!/usr/bin/env python3
r"""Signatures of vLLM's classes and functions, read from its wheel by syntax tree: nothing is unpacked, nothing runs.

Usage: python3 benchmarks/vllm_signatures.py vllm-0.26.0-....whl docs/results/vllm-0.26.0-signatures.json
The wheel, 304 MB, comes with:
    pip download vllm==0.26.0 --no-deps --only-binary=:all: --python-version 3.12 \
        --platform manylinux_2_28_x86_64 -d DIR
"""

import ast
import json
import sys
import zipfile
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from fastkernels.errors import FastKernelsError, did_you_mean

LAYERS = "vllm/model_executor/layers"
MODELS = "vllm/model_executor/models"
FILES = (
    *(f"{LAYERS}/{name}.py" for name in (
        "layernorm", "activation", "linear", "vocab_parallel_embedding", "attention/attention", "mla",
        "attention/mla_attention", "rotary_embedding/base",
        "rotary_embedding/linear_scaling_rope", "rotary_embedding/llama3_rope", "rotary_embedding/yarn_scaling_rope",
        "rotary_embedding/deepseek_scaling_rope",
        "fused_moe/router/grouped_topk_router")),
    *(f"{MODELS}/{name}.py" for name in (
        "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma3", "gemma3_mm", "gpt_oss", "deepseek_v2",
        "phi3", "granite", "olmo3", "gemma2", "glm4_moe")),
)  # fmt: skip
"""Files whose public classes are read; one that lacks is an error."""
FUNCTIONS = {
    "vllm/_custom_ops.py": ("concat_and_cache_mla", "moe_sum", "reshape_and_cache_flash", "topk_softmax"),
    "vllm/third_party/flashmla/flash_mla_interface.py": ("flash_mla_with_kvcache",),
    "vllm/vllm_flash_attn/flash_attn_interface.py": ("flash_attn_varlen_func",),
    "vllm/distributed/communication_op.py": ("tensor_model_parallel_all_reduce",),
    f"{LAYERS}/fused_moe/fused_moe.py": ("invoke_fused_moe_triton_kernel",),
    f"{LAYERS}/fused_moe/layer.py": ("FusedMoE",),
    f"{LAYERS}/fused_moe/moe_align_block_size.py": ("moe_align_block_size",),
    f"{LAYERS}/fused_moe/router/fused_topk_router.py": ("fused_topk",),
    f"{LAYERS}/fused_moe/router/grouped_topk_router.py": ("grouped_topk",),
    f"{LAYERS}/rotary_embedding/__init__.py": ("get_rope",),
}  # fmt: skip
"""Functions that are read, by file; one that lacks is an error."""
FORWARDS = ("forward", "forward_native", "forward_cuda")
PASSES_ON = ("CustomOp", "PluggableLayer")
"""Bases whose own `forward` and `__init__` hand every argument on."""
MOST_BASES = 20

Function = ast.FunctionDef | ast.AsyncFunctionDef


class WheelError(FastKernelsError):
    """A wheel or a file of signatures that cannot be read."""


@dataclass(frozen=True)
class Interface:
    """How a class is built and called, or a function is called, as its source says."""

    file: str
    """File within the wheel."""
    init: str | None
    """Parameters of `__init__` without self, `(hidden_size: int, ...)`; None for a function."""
    forward: str
    """Parameters of forward, or of the function, with the annotation of what it returns."""


@dataclass(frozen=True)
class Signatures:
    """The interfaces of one release."""

    version: str
    """Version of vLLM."""
    wheel: str
    """File name of the wheel."""
    interfaces: dict[str, list[Interface]] = field(default_factory=dict)
    """By name; several files may define the same name."""

    @classmethod
    def load(cls, path: Path) -> "Signatures":
        """Read the file that `save` wrote; WheelError where it is none."""
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
            found = {name: [Interface(**row) for row in rows] for name, rows in data["interfaces"].items()}
            return cls(data["version"], data["wheel"], found)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WheelError(f"{path}: no file of signatures: {error}") from error

    def save(self, path: Path) -> None:
        """Write the signatures, one interface a line."""
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps([asdict(i) for i in found])}"
                          for name, found in sorted(self.interfaces.items()))
        head = f'{{"version": {json.dumps(self.version)}, "wheel": {json.dumps(self.wheel)}, "interfaces": {{\n'
        path.write_text(f"{head}{rows}\n}}}}\n", encoding="utf-8")


class Wheel:
    """The Python files of a wheel, each parsed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise WheelError(f"{path}: no wheel: {error}") from error
        self._trees: dict[str, ast.Module | None] = {}

    @cached_property
    def version(self) -> str:
        """The version in the wheel's name."""
        words = self.path.name.split("-")
        if len(words) < 5 or words[0] != "vllm":
            raise WheelError(f"{self.path}: not the file name of a vLLM wheel; expected vllm-VERSION-....whl")
        return words[1]

    def tree(self, file: str) -> ast.Module | None:
        """The syntax tree of a file; None where the wheel has none of that name."""
        if file not in self._trees:
            names = self._zip.namelist()
            self._trees[file] = ast.parse(self._zip.read(file)) if file in names else None
        return self._trees[file]

    def find_class(self, file: str, name: str, depth: int = 0) -> tuple[str, ast.ClassDef] | None:
        """The class that a name stands for in a file, followed through imports; None where it is out of sight."""
        tree = self.tree(file)
        if tree is None or depth > MOST_BASES:
            return None
        for node in reversed(tree.body):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return file, node
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return self._imported(file, node, alias.name, depth)
        return None

    def _imported(self, file: str, node: ast.ImportFrom, name: str, depth: int) -> tuple[str, ast.ClassDef] | None:
        folder = PurePosixPath(file).parents[node.level - 1] if node.level else PurePosixPath()
        base = folder.joinpath(*(node.module or "").split("."))
        for path in (f"{base}.py", f"{base}/__init__.py"):
            if self.tree(path) is not None:
                return self.find_class(path, name, depth + 1)
        return None

    def method(self, file: str, node: ast.ClassDef, names: tuple[str, ...], depth: int = 0) -> Function | None:
        """The first of these methods that the class defines, else that a base in sight defines."""
        own = {item.name: item for item in node.body if isinstance(item, Function)}
        for name in names:
            if name in own:
                return own[name]
        for base in node.bases:
            text = ast.unparse(base)
            found = None if text in PASSES_ON or depth > MOST_BASES else self.find_class(file, text)
            method = self.method(*found, names, depth + 1) if found else None
            if method is not None:
                return method
        return None


def read(wheel: Wheel) -> Signatures:
    """Read every public class of FILES and the functions of FUNCTIONS; WheelError that names what is not there."""
    signatures = Signatures(wheel.version, wheel.path.name)
    for file in FILES:
        for node in _tree(wheel, file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                _add(signatures, node.name, _class(wheel, file, node))
    for file, names in FUNCTIONS.items():
        defined = {node.name: node for node in _tree(wheel, file).body if isinstance(node, Function)}
        for name in names:
            if name not in defined:
                raise WheelError(f"{wheel.path}: {file} has no function {name}{did_you_mean(name, defined)}")
            _add(signatures, name, Interface(file, None, parameters(defined[name], bound=False)))
    return signatures


def _tree(wheel: Wheel, file: str) -> ast.Module:
    tree = wheel.tree(file)
    if tree is None:
        raise WheelError(f"{wheel.path}: {file} is not in the wheel; vLLM has moved it, so the list of files has to "
                         "follow")
    return tree


def _add(signatures: Signatures, name: str, interface: Interface | None) -> None:
    if interface is not None:
        signatures.interfaces.setdefault(name, []).append(interface)


def _class(wheel: Wheel, file: str, node: ast.ClassDef) -> Interface | None:
    """None for a class that is never called: configs, mixins."""
    forward = wheel.method(file, node, FORWARDS)
    if forward is None:
        return None
    init = wheel.method(file, node, ("__init__",))
    return Interface(file, parameters(init).split(" -> ")[0] if init else "()", parameters(forward))


def parameters(function: Function, bound: bool = True) -> str:
    """`(x: torch.Tensor, y: int=1) -> torch.Tensor`, without self where the function is a bound method."""
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    arguments = ast.parse(f"def f({ast.unparse(function.args)}): ...").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    args = arguments.args
    if bound and not static:
        (args.posonlyargs or args.args).pop(0)
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"({ast.unparse(args)}){returns}"


def main(words: list[str]) -> int:
    """Read a wheel and write its signatures."""
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        signatures = read(Wheel(Path(words[0])))
    except WheelError as error:
        print(f"vllm_signatures: {error}", file=sys.stderr)
        return 1
    signatures.save(Path(words[1]))
    print(f"{words[1]}: vLLM {signatures.version}, names {len(signatures.interfaces)}")
    return 0




if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
