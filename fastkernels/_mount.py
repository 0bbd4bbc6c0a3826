"""Maps `fastkernels.tasks`, `.agent` and `.manifests` to the checkout's top-level folders.

A wheel holds these packages under `fastkernels/` already. In a checkout they lie beside it; a finder for just these
three names makes the checkout importable as it is, also when a wheel is installed and the checkout shadows it.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

MOUNTED = ("tasks", "agent", "manifests")


class CheckoutFinder:
    """Finds the three mounted packages in the folder above `fastkernels/`."""

    def __init__(self, root: Path) -> None:
        self.folders = {f"fastkernels.{name}": root / name for name in MOUNTED}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a mounted package, None for every other name."""
        del path, target
        folder = self.folders.get(fullname)
        if folder is None or not (folder / "__init__.py").is_file():
            return None
        return importlib.util.spec_from_file_location(
            fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def mount() -> None:
    """Install the finder once, in a checkout only."""
    package = Path(__file__).resolve().parent
    if (package / "tasks").is_dir():
        return  # a wheel
    finder = CheckoutFinder(package.parent)
    # Compared by content: in a process that imports the package anew, the class is another one.
    if not any(getattr(other, "folders", None) == finder.folders for other in sys.meta_path):
        sys.meta_path.insert(0, finder)
