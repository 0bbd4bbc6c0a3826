"""One open run: what it has got so far, and what was lost of it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass

from fastkernels.bench.tracking.kernel_files import KernelFiles
from fastkernels.bench.tracking.record import MAX_TAG, Record, cut, split_finite
from fastkernels.bench.tracking.store import Store, StoreUnreachableError
from fastkernels.results import KernelSource

PAUSE_S = 60.0
"""Seconds for which a store that did not answer is left alone, so that a dead server costs a run little."""


@dataclass
class RunHandle:
    """What `start_run` yields."""

    name: str
    """The run's name."""
    run_id: str = ""
    """The store's id of the run; empty where it is not kept."""
    uri: str = ""
    """Where the run is kept; empty where it is not."""
    status: str = ""
    """Set to FINISHED, FAILED or KILLED to end the run as that; by itself the way the block is left decides."""


class OpenRun:
    """Writes to one run of a store; notes what cannot be written instead of raising."""

    def __init__(self, store: Store, handle: RunHandle) -> None:
        self.store = store
        self.handle = handle
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.benches = 0
        self.ended = ""
        self._steps: Counter[str] = Counter()
        self._nonfinite: dict[str, str] = {}
        self._kernels = KernelFiles()
        self._lost: dict[str, list[str]] = {}
        self._paused_until = 0.0

    @property
    def run_id(self) -> str:
        """The store's id; empty where the run is not kept."""
        return self.handle.run_id

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """Do it where the run is kept; `what` is noted as lost where that fails or the store is left alone."""
        if not self.run_id:
            return
        if time.monotonic() < self._paused_until:
            self.lose(what, "not tried again so soon")
            return
        try:
            action()
        except StoreUnreachableError as error:
            self._paused_until = time.monotonic() + PAUSE_S
            self.lose(what, str(error))
        except Exception as error:  # a benchmark goes on, whatever its log does; `lost` is reported at the end
            self.lose(what, f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error))

    def lose(self, what: str, why: str) -> None:
        """Note that something is not kept."""
        named = self._lost.setdefault(why, [])
        if what not in named:
            named.append(what)

    @property
    def lost(self) -> str:
        """What is missing in the store and why; empty where nothing is."""
        return "; ".join(f"{', '.join(what)} ({cut(' '.join(why.split()), 300)})" for why, what in self._lost.items())

    def write(self, record: Record) -> None:
        """Add values; a parameter that the run has keeps its value, and the first tier stays."""
        params = {name: value for name, value in record.params.items() if name not in self.params}
        tags = {**record.tags, **({"tier": self.tags["tier"]} if "tier" in self.tags else {})}
        finite, others = split_finite(record.metrics)
        if others:
            self._nonfinite |= others
            tags["nonfinite"] = cut(json.dumps(self._nonfinite), MAX_TAG)
        self.store.write_values(self.run_id, params, {name: (v, self._steps[name]) for name, v in finite.items()}, tags)
        self._steps.update(finite.keys())
        self.params |= params
        self.tags |= tags

    def write_files(self, files: Mapping[str, bytes]) -> None:
        """Add files by path."""
        if files:
            self.store.write_files(self.run_id, files)

    def write_kernels(self, sources: Iterable[KernelSource]) -> None:
        """Add sources and their hashes."""
        kernels = deepcopy(self._kernels)  # what fails to be written is news again when it is logged again
        files = kernels.add(sources)
        if files:
            self.write_files(files)
            self.write(Record(tags=kernels.tags()))
            self._kernels = kernels
