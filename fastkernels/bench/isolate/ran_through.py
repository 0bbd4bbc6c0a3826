"""Which installed packages a call ran through, by the code that ran and the kernels that it launched."""

import importlib.metadata
import re
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from fastkernels.bench.isolate.protocol import Message

MOST_PACKAGES = 20
"""Packages named, at most."""

TOOLS = frozenset(("torch", "triton", "numpy", "fastkernels", "fastkernels_overlay", "__main__"))
"""Top-level modules that kernels are written in, and this project's."""

_NAME = re.compile(r"[\w.+!-]{1,60}( [\w.+!-]{1,30})?")
"""`liger_kernel 0.6.2`."""

_DEPTH = 4
"""Kernels within kernels that are looked at."""


class CallTrace:
    """Notes the Python code that runs in this thread, and in those that it starts, while the context is entered.

    Besides what runs in Python: the modules of C functions that it calls, of kernels that Triton launches, with the
    kernels that those call, and the namespaces of torch's custom operators.
    """

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()
        self._modules: set[str] = set()
        self._namespaces: set[str] = set()
        self._before: tuple[Any, Any] = (None, None)
        self._torch = str(Path(str(sys.modules["torch"].__file__)).parent)

    def __enter__(self) -> "CallTrace":
        self._before = threading.getprofile(), sys.getprofile()
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before[1])
        threading.setprofile(self._before[0])

    def packages(self, own: Path | None) -> list[str]:
        """`NAME VERSION` of every package that is neither Python's, a tool nor the candidate's own, by name.

        own: the candidate's directory.
        """
        names = {name.partition(".")[0] for name in self._modules | self._namespaces}
        names -= TOOLS | sys.stdlib_module_names
        found = [name for name in sorted(names) if _places(name, own)]
        return _with_versions(found) if found else []

    def _look(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            if code.co_name in _LAUNCHERS:
                self._launched(code, frame)
            if code not in self._codes:
                self._codes.add(code)
                self._note(frame.f_globals)
        elif event == "c_call":
            module = getattr(arg, "__module__", None)
            if type(module) is str:
                self._modules.add(module)

    def _note(self, names: Mapping[str, Any]) -> None:
        module = names.get("__name__")
        if type(module) is str:
            self._modules.add(module)

    def _launched(self, code: CodeType, frame: FrameType) -> None:
        """What torch's or Triton's own Python code is about to run."""
        what = frame.f_locals.get("self")
        if code.co_filename.startswith(self._torch):
            name = getattr(what, "_qualified_op_name", None) or getattr(what, "_name", None)
            if type(name) is str:
                self._namespaces.add(name.partition("::")[0])
        elif "triton" in code.co_filename:
            self._kernel(what, _DEPTH)

    def _kernel(self, kernel: Any, depth: int) -> None:
        """A kernel's module, under autotuners and heuristics, and those of the kernels that it calls."""
        for _ in range(_DEPTH):
            inner = getattr(kernel, "fn", None)
            if inner is None:
                break
            kernel = inner
        if not isinstance(kernel, FunctionType):
            return
        self._note(kernel.__globals__)
        for name in kernel.__code__.co_names if depth else ():
            called = kernel.__globals__.get(name)
            if type(called).__module__.startswith("triton.") and hasattr(called, "fn"):
                self._kernel(called, depth - 1)


_LAUNCHERS = frozenset(("run", "__call__"))
"""Names of the methods by which Triton launches a kernel (`run`) and torch calls an operator."""


def ran_through(reply: Message) -> tuple[str, ...]:
    """What a candidate's process says that its call ran through; without what is no name of a package."""
    names = reply.get("ran_through")
    if not isinstance(names, list):
        return ()
    return tuple(name for name in names[:MOST_PACKAGES] if isinstance(name, str) and _NAME.fullmatch(name))


def _places(name: str, own: Path | None) -> set[str]:
    """Directories that hold a top-level module, without those of Python itself and of the candidate."""
    module = sys.modules.get(name)
    folders = getattr(module, "__path__", None)
    places = [getattr(module, "__file__", None)] if folders is None else list(folders)
    found = {str(Path(place).parent) for place in places if type(place) is str}
    found -= {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return {place for place in found if own is None or not Path(place).is_relative_to(own)}


def _with_versions(names: Sequence[str]) -> list[str]:
    """Names with their distributions' versions; without what torch needs itself and what was built on the way."""
    owners = {name: _distributions().get(name, []) for name in names}
    return [f"{name} {importlib.metadata.version(owners[name][0]) if owners[name] else ''}".strip() for name in names
            if (owners[name] or _places(name, None) & set(sys.path)) and not _tools() & set(map(_plain, owners[name]))]


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def _tools() -> set[str]:
    return _needed_by("torch")


def _needed_by(root: str) -> set[str]:
    """Distributions that one needs, and what those need, without extras."""
    needed: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [_plain(re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0]) for line in lines if "extra ==" not in line]
    return needed


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
