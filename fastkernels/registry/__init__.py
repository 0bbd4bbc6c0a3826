"""Operators, candidates, import graph and overlay, read without importing torch."""

from fastkernels.registry.candidates import CandidateFile, Candidates
from fastkernels.registry.graph import ImportGraph, subsumed
from fastkernels.registry.operators import OperatorFile, baseline_root, discover
from fastkernels.registry.overlay import Overlay
from fastkernels.registry.signatures import ClassSignature, Kind, Param, Signature, differences

__all__ = [
    "CandidateFile",
    "Candidates",
    "ClassSignature",
    "ImportGraph",
    "Kind",
    "OperatorFile",
    "Overlay",
    "Param",
    "Signature",
    "baseline_root",
    "differences",
    "discover",
    "subsumed",
]
