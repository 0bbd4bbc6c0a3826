"""Reading and generating manifests; no torch."""

from fastkernels.manifest.loader import default_path, load_manifest
from fastkernels.manifest.manifest import Manifest, ModelEntry, OperatorEntry, model_map
from fastkernels.manifest.pause import collector_paused
from fastkernels.manifest.scenario import InputSpec, Scenario, Selection

__all__ = [
    "InputSpec",
    "Manifest",
    "ModelEntry",
    "OperatorEntry",
    "Scenario",
    "Selection",
    "collector_paused",
    "default_path",
    "load_manifest",
    "model_map",
]
