"""Refuses a candidate's process the baseline that it replaces, the judge and libraries of finished kernels."""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import fastkernels
from fastkernels.bench.isolate.protocol import Message
from fastkernels.registry import baseline_root
from fastkernels.registry.tree import python_files
from fastkernels.results import Verdict

REFERENCE_LIBRARIES = (
    "vllm", "vllm_flash_attn", "flashinfer", "liger_kernel", "flash_attn", "flash_attn_interface", "flash_attn_2_cuda",
    "flash_attn_3_cuda", "xformers", "transformer_engine", "transformer_engine_torch", "transformers", "sglang",
    "sgl_kernel", "tensorrt_llm", "aiter", "apex", "fla", "quack", "flash_mla", "deep_gemm", "unsloth", "kernels",
    "mamba_ssm", "causal_conv1d", "deepspeed", "onnxruntime",
)
"""Top-level packages that hold finished kernels or models; what kernels are written in (Triton, CUTLASS) is free."""

HARNESS = ("fastkernels.tasks.baseline", "fastkernels.bench.grade", "fastkernels.engine",
           "fastkernels.bench.isolate.baseline_worker", "fastkernels.bench.isolate.providers")
"""Packages and modules of this project that know the answer; the candidate's process itself needs none of them."""

_WATCHED = frozenset(("import", "exec", "open", "os.link", "os.symlink", "os.rename", "ctypes.dlopen"))
_CODE = (".py", ".pyc", ".so", ".pyd")
ADVICE = "candidates compute by themselves; --fk-allow-passthrough grades one that does not"
"""What a finding of PASSTHROUGH ends with."""

Code = tuple[Any, ...]


class PassthroughError(ModuleNotFoundError):
    """The candidate reached for code that computes in its place; to what probes for a module it is not there."""


class PassthroughGuard:
    """Refuses imports from `start` on, in whichever way they are made, and remembers what cannot be innocent.

    An import is refused with PassthroughError: a candidate that catches it and computes by itself is honest. Reading
    the source of a baseline that it replaces, or running it, is refused too and counts whether caught or not. The
    finder can be taken away by the candidate; the audit hook behind it cannot.
    """

    def __init__(self, candidates: Path, baseline: Path | None = None) -> None:
        """candidates: their directory, laid out like `baseline` (by default the installed baseline operators)."""
        self._baseline = (baseline or baseline_root()).resolve()
        replaced = [self._baseline / path.relative_to(candidates) for path in python_files(candidates)]
        self._replaced = [path for path in replaced if path.is_file() and path.name != "__init__.py"]
        self._inodes = {_inode(path) for path in self._replaced}
        self._codes = {_essence(compile(path.read_bytes(), str(path), "exec", dont_inherit=True))
                       for path in self._replaced}
        self._own = f"{candidates.absolute()}{os.sep}"
        self._roots = tuple(_reference_roots() + _harness_roots())
        self._known: set[str] = set()
        self._found = ""

    def start(self) -> "PassthroughGuard":
        """Refuse from now on; what is loaded already stays."""
        self._known = set(sys.modules)
        sys.meta_path.insert(0, _Finder())
        sys.addaudithook(self._audit)
        return self

    def judged(self, reply: Message) -> Message:
        """The reply, or the verdict PASSTHROUGH in its place where foreign code was read, run or loaded."""
        names = set(sys.modules) - self._known
        for name in names:
            origin = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
            if isinstance(origin, str) and (origin.startswith(self._roots) or _inode(origin) in self._inodes):
                self._found = self._found or f"the candidate loaded {name} from {origin}"
        self._known |= names
        if not self._found or reply.get("verdict") == Verdict.PASSTHROUGH:
            return reply
        return {"verdict": str(Verdict.PASSTHROUGH), "message": f"{self._found}; {ADVICE}",
                "evidence": str(reply.get("evidence", ""))}

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _WATCHED:
            return
        if event == "exec":
            self._executed(args[0])
        elif event == "import":
            if is_guarded(args[0]):
                refuse(args[0])
        else:
            self._opened(args[0])

    def _opened(self, path: object) -> None:
        if not isinstance(path, str | bytes):  # a descriptor: opened before, under its name
            return
        name = os.path.abspath(os.fsdecode(path))
        if name.endswith(_CODE) and name.startswith(self._roots):
            raise PassthroughError(f"the candidate opens {name}; {ADVICE}")
        if _inode(name) in self._inodes or self._is_bytecode(name):
            self._found = self._found or f"the candidate opened {name}, the code that it replaces"
            raise PassthroughError(f"{self._found}; {ADVICE}")

    def _is_bytecode(self, name: str) -> bool:
        """Whether this is the bytecode of a replaced file, which the other process may write at any time."""
        folder, base = os.path.split(name)
        stems = {path.stem for path in self._replaced}
        return (base.endswith(".pyc") and base.split(".")[0] in stems
                and os.path.realpath(folder).startswith(str(self._baseline)))

    def _executed(self, code: object) -> None:
        if isinstance(code, CodeType) and not code.co_filename.startswith(self._own) and _essence(code) in self._codes:
            self._found = self._found or "the candidate ran the source of the baseline that it replaces"
            raise PassthroughError(f"{self._found}; {ADVICE}")


class _Refuser(Loader):
    """Loads nothing. The refusal comes here and not from the finder, so that asking for a spec harms nobody."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        refuse(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        refuse(module.__name__)


class _Finder:
    """First on sys.meta_path: lets the others find guarded names, and gives them a loader that refuses."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a spec for a guarded name that is installed; None for all others."""
        if not is_guarded(fullname):
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None:
            spec.loader = _Refuser()
        return spec


def is_guarded(name: object) -> bool:
    """Whether a module of this name is refused to candidates."""
    return isinstance(name, str) and (name.partition(".")[0] in REFERENCE_LIBRARIES
                                      or f"{name}.".startswith(tuple(f"{guarded}." for guarded in HARNESS)))


def is_passthrough(error: BaseException | None) -> bool:
    """Whether an exception says that the candidate cannot do without guarded code; its stated causes count too."""
    for _ in range(8):
        if isinstance(error, PassthroughError) or (isinstance(error, ImportError) and is_guarded(error.name)):
            return True
        error = None if error is None else error.__cause__
    return False


def refuse(name: str) -> NoReturn:
    """Raise PassthroughError for a guarded module."""
    what = ("a library of finished kernels" if name.partition(".")[0] in REFERENCE_LIBRARIES else
            "the baseline by its absolute name" if name.startswith(HARNESS[0]) else "the harness")
    raise PassthroughError(f"the candidate imports {name}, {what}; {ADVICE}", name=name)


def _reference_roots() -> list[str]:
    """Folders and files of the installed reference libraries, found without importing any."""
    specs = [spec for name in REFERENCE_LIBRARIES if (spec := PathFinder.find_spec(name)) is not None]
    folders = [f"{place}{os.sep}" for spec in specs for place in spec.submodule_search_locations or ()]
    files = [spec.origin for spec in specs if spec.origin and not spec.submodule_search_locations]
    return folders + files


def _harness_roots() -> list[str]:
    """Folders and files of HARNESS but for the baseline, whose other files the overlay reads."""
    package = Path(fastkernels.__file__).absolute().parent
    places = [package.joinpath(*name.split(".")[1:]) for name in HARNESS[1:]]
    return [f"{place}{os.sep}" if place.is_dir() else f"{place}.py" for place in places]


def _inode(path: str | Path) -> tuple[int, int] | None:
    """Device and inode, which links share; None where there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _essence(code: CodeType) -> Code:
    """What a code object does, without where it came from: equal for the same source under another name."""
    constants = tuple(_essence(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, constants
