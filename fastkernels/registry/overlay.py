"""The overlay: the task tree imported a second time, each module from the candidate directory if it is there."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from fastkernels.registry.operators import baseline_root
from fastkernels.registry.tree import TaskTree


class SourceOnlyLoader(SourceFileLoader):
    """Compiles the source at every import.

    Bytecode is neither written, which keeps candidate and baseline folders clean, nor read: a `.pyc` beside a
    candidate may be stale or hold other code than the source that was checked and hashed.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the source file."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class Overlay:
    """A package root in which `package.L1.rms_norm` is the candidate's file, or the baseline's where there is none.

    Relative imports stay within the package, so a replacement reaches every level above it. Nothing outside the
    package is touched; overlays with different package names live side by side. Also a context manager.
    """

    def __init__(self, candidates: Path | None, package: str = "fastkernels_overlay",
                 baseline: Path | None = None) -> None:
        if not package.isidentifier():
            raise ValueError(f"{package!r} is no name for a top-level package")
        self.package = package
        self.tasks = TaskTree((baseline or baseline_root()).absolute(), candidates and candidates.absolute())

    def install(self) -> "Overlay":
        """Make the package importable; ValueError where another package has its name."""
        if self not in sys.meta_path:
            if self.package in sys.modules or importlib.util.find_spec(self.package) is not None:
                raise ValueError(f"a package named {self.package} is there already; give the overlay another name")
            sys.meta_path.insert(0, self)
        return self

    def uninstall(self) -> None:
        """Undo `install` and forget the modules; objects made from them live on."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            for name in [name for name in sys.modules if f"{name}.".startswith(f"{self.package}.")]:
                del sys.modules[name]

    def module(self, name: str) -> ModuleType:
        """Import a module of the overlay, such as `L1.rms_norm`; whatever its code raises passes through."""
        return importlib.import_module(f"{self.package}.{name}")

    def is_candidate(self, name: str) -> bool:
        """True where the module comes from the candidate directory."""
        place = self.tasks.find(name)
        return place is not None and place.is_candidate

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of one of the overlay's modules, None for every other name (the import system's hook)."""
        del path, target
        root, _, name = fullname.partition(".")
        place = self.tasks.find(name) if root == self.package else None
        if place is None:
            return None
        if place.path is None:
            spec: ModuleSpec | None = ModuleSpec(fullname, None, is_package=True)
        else:
            loader = SourceOnlyLoader(fullname, str(place.path))
            spec = importlib.util.spec_from_file_location(fullname, place.path, loader=loader)
        if spec is not None:
            # A package's search path stays empty: submodules come through this finder, never straight from a folder.
            spec.submodule_search_locations = [] if place.is_package else None
        return spec

    def __enter__(self) -> "Overlay":
        return self.install()

    def __exit__(self, *exception: object) -> None:
        self.uninstall()
