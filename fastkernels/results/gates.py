"""Deployment gates: what a right kernel must survive besides in a real model, reported apart from the verdict."""

from dataclasses import dataclass
from enum import StrEnum


class Gate(StrEnum):
    """One way of deployment. Closed."""

    STRIDED = "strided"
    """Inputs that the models pass as slices of a fused projection's output come with gaps between their rows."""
    STREAM = "stream"
    """Called on a stream of its own while the default stream is busy. CUDA only."""
    NO_SYNC = "no_sync"
    """The host does not wait for the device within a call. CUDA and decode only."""
    CUDA_GRAPH = "cuda_graph"
    """Captured once in a CUDA graph and replayed on new inputs in the captured memory. CUDA only."""
    COMPILE = "compile"
    """`torch.compile(fullgraph=True)` of the module."""


class GateOutcome(StrEnum):
    """What came of one gate. Closed."""

    PASSED = "passed"
    """The outputs were right that way too."""
    FAILED = "failed"
    """They were not, or there were none."""
    NOT_APPLICABLE = "not_applicable"
    """This gate says nothing about this scenario on this device."""


@dataclass(frozen=True)
class GateResult:
    """One gate of one scenario."""

    outcome: GateOutcome
    """What came of it."""
    reason: str = ""
    """One line: why it failed or does not apply; empty where it passed."""

    @property
    def failed(self) -> bool:
        """True for FAILED alone."""
        return self.outcome is GateOutcome.FAILED
