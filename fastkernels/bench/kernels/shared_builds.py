"""What one grader's workers do with the folders that candidates compile to: who starts in which, who waits for whom."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.builds import Builds, is_empty, is_locked
from fastkernels.bench.kernels.failed import CandidateFailedError
from fastkernels.results import Verdict

BUILDING = ("import", "build", "reload")
"""Requests in which a candidate may compile; `reload` builds anew where weights have other names."""


class SharedBuilds:
    """The folders of one run as one grader uses them; longest_s: how long an import may take."""

    def __init__(self, builds: Builds, longest_s: float) -> None:
        self._builds, self._longest_s = builds, longest_s
        self._first = ExitStack()
        self.waited_s = 0.0
        """Seconds spent waiting for other graders to import the same files, since this was last set to 0."""

    def fresh(self) -> Path:
        """A folder for a process that knows no candidate yet."""
        return self._builds.fresh()

    def process_for(self, loaded: str, take: Callable[[], WorkerProcess],
                    start: Callable[[Path], WorkerProcess]) -> WorkerProcess:
        """One that `take` gives, or one that is started where there is something compiled for it to find.

        Who is the first to import these files, of all graders of the run, holds the others back until `during` has
        seen its import, or until `close`.
        """
        self.close()
        if not loaded:
            return take()
        self.waited_s += self._first.enter_context(self._builds.first(loaded, self._longest_s))
        folder = self._builds.of(loaded)
        if folder is not None and not (self._builds.is_mine(loaded) and is_empty(folder)):
            self.close()
            return start(folder)
        process = take()
        if process.builds is not None:
            self._builds.give(loaded, process.builds)
        return process

    @contextmanager
    def during(self, request: Message, loaded: str, folder: Path | None) -> Iterator[None]:
        """One request to the candidate: what it has begun to compile there and did not end is used by nobody."""
        name = str(request["module"] if "module" in request else request.get("scenario", {}).get("op", ""))
        try:
            with self._builds.building(name) if request["do"] in BUILDING else nullcontext():
                yield
        except BaseException as error:  # an interrupt too
            over = isinstance(error, CandidateFailedError) and error.verdict is Verdict.LIMIT_EXCEEDED
            spoilt = request["do"] == "import" or over
            if folder is not None and (spoilt or is_locked(folder)):
                self._builds.forget(loaded, folder, remove=spoilt)
            raise
        finally:
            if request["do"] == "import":
                self.close()

    def close(self) -> None:
        """Let other graders go on."""
        self._first.close()
