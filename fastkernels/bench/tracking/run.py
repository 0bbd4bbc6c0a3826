"""What a tracked run holds, as it is read back from the store."""

from dataclasses import dataclass, field

EXPERIMENT = "fastkernels"
"""The experiment that holds every run of this project."""


@dataclass(frozen=True)
class TrackedRun:
    """One run of any tier."""

    run_id: str
    """The store's id of the run."""
    name: str
    """Its readable name."""
    status: str
    """`RUNNING`, `FINISHED`, `FAILED` (ended by an exception, or it found a wrong kernel) or `KILLED` (interrupted)."""
    tier: str
    """`agent`, `kernel`, `eval` or `e2e`; empty where nothing said so."""
    started: str
    """UTC time, ISO 8601."""
    duration_s: float | None
    """Seconds from start to end; None while it runs."""
    params: dict[str, str] = field(default_factory=dict)
    """Settings by name, as text."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Latest value by name."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags by name, without those that MLflow keeps for itself (`mlflow.*`)."""
    artifact_uri: str = ""
    """Where its files lie."""
