"""Which candidates a scenario reaches, and whether their files have changed since they were read."""

from dataclasses import dataclass
from pathlib import Path

from fastkernels.registry import Candidates, ImportGraph, baseline_root
from fastkernels.registry.beside import Stamp, files_below
from fastkernels.results import Verdict


@dataclass(frozen=True)
class Reached:
    """The candidates that one operator's module is made of."""

    modules: tuple[str, ...] = ()
    """Such as `L1.rms_norm`; empty in a self-test."""
    path: str | None = None
    """File of the operator's own candidate, or the files below it."""
    sha256: str | None = None
    """Hash over these files, the helpers that they import and what they can read beside them."""
    problem: tuple[Verdict, str] | None = None
    """What is wrong with one of them before it is even imported."""

    @property
    def fingerprint(self) -> str:
        """Equal where the very same code would be imported; empty in a self-test."""
        return f"{self.path} {self.sha256}" if self.modules else ""


class CandidateFiles:
    """The candidates of one directory, read again when a file changes."""

    def __init__(self, directory: Path | None, self_test: bool, allow_passthrough: bool = False) -> None:
        self._asked_for = directory
        self._self_test = self_test
        self._allow_passthrough = allow_passthrough
        self._place = directory or baseline_root().parent / "candidate"
        self._stamps: dict[str, Stamp] = {}
        self._read()

    @property
    def directory(self) -> Path | None:
        """Where they lie."""
        return self._candidates.directory

    def refresh(self) -> bool:
        """Read them again if a file has come, gone or changed; True then."""
        if _stamps(self._place) == self._stamps:
            return False
        self._read()
        return True

    def reached(self, module: str) -> Reached:
        """The candidates that this operator's module reaches."""
        if self._self_test:
            return Reached()
        modules = tuple(sorted(self._graph.reaches(module)))
        if not modules:
            return Reached()
        known = {**self._candidates.helpers, **self._candidates.files}
        paths = ", ".join(str(known[name].path) for name in modules)
        return Reached(modules, paths, self._graph.sha256(module), self._problem(module))

    def _problem(self, module: str) -> tuple[Verdict, str] | None:
        """What is wrong with a file as it stands; one that goes past the overlay does not compute by itself."""
        used = () if self._allow_passthrough else self._graph.uses_baseline(module)
        if used and self._graph.problem(module) is None:
            return Verdict.PASSTHROUGH, (f"the candidate imports {', '.join(used)}, the baseline by its absolute name; "
                                         "candidates compute by themselves and import lower levels relatively "
                                         "(--fk-allow-passthrough grades one that does not)")
        return self._graph.problem(module)

    def _read(self) -> None:
        self._stamps = _stamps(self._place)
        self._candidates = Candidates.load(self._asked_for)
        self._graph = ImportGraph.of(baseline_root(), self._candidates)


def _stamps(directory: Path) -> dict[str, Stamp]:
    """Of every file that a candidate can read there; taken before they are read, so that no change is missed."""
    return dict(files_below(directory))
