"""Run tracking: the calls that every tier and any script makes to record what it measured.

Importing this is cheap: neither mlflow nor torch is loaded before the first run is opened or asked for.
"""

from fastkernels.bench.tracking.open_run import RunHandle
from fastkernels.bench.tracking.run import EXPERIMENT, TrackedRun
from fastkernels.bench.tracking.tracker import Tracker, TrackingWarning
from fastkernels.bench.tracking.uri import local_store, shown_uri, tracking_uri

__all__ = ["EXPERIMENT", "RunHandle", "TrackedRun", "Tracker", "TrackingWarning", "local_store", "shown_uri", "tracker",
           "tracking_uri"]

tracker = Tracker()
"""The tracker of this process."""
