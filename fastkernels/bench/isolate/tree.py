"""Describes whatever a candidate's forward returned as plain data, and rebuilds it on the trusted side.

A node is `{"kind": "none"}`, `{"kind": "tuple" | "list", "items": [node...]}`, `{"kind": "dict", "items": {...}}`,
`{"kind": "tensor", "leaf": n, ...}` or `{"kind": "other", "type": "numpy.ndarray"}` for what is no plain tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastkernels.bench.isolate.devices import kind_of
from fastkernels.bench.isolate.protocol import ProtocolError

MAX_DEPTH = 8
"""Deeper trees count as something other than plain tensors."""

MAX_LEAVES = 1024
"""Most tensors in one tree."""

Node = dict[str, Any]


@dataclass(frozen=True)
class Foreign:
    """Stands on the trusted side for an output that is no plain tensor."""

    type_name: str
    """Its type in the candidate's process."""


def describe(value: object, leaves: list[torch.Tensor], depth: int = 0) -> Node:
    """Describe a value; its plain tensors are appended to `leaves`."""
    if value is None:
        return {"kind": "none"}
    if type(value) in (tuple, list) and depth < MAX_DEPTH:
        assert isinstance(value, tuple | list)
        return {"kind": type(value).__name__, "items": [describe(item, leaves, depth + 1) for item in value]}
    if type(value) is dict and depth < MAX_DEPTH and all(type(key) is str for key in value):
        return {"kind": "dict", "items": {key: describe(item, leaves, depth + 1) for key, item in value.items()}}
    if is_plain(value) and len(leaves) < MAX_LEAVES:
        assert isinstance(value, torch.Tensor)
        leaves.append(value)
        return {"kind": "tensor", "leaf": len(leaves) - 1, "device": str(value.device)}
    return {"kind": "other", "type": f"{type(value).__module__}.{type(value).__qualname__}"[:200]}


def is_plain(value: object) -> bool:
    """Return whether this is an ordinary dense tensor and no subclass."""
    return (type(value) in (torch.Tensor, torch.nn.Parameter) and isinstance(value, torch.Tensor)
            and value.layout is torch.strided and not value.is_nested and not value.is_quantized)


def rebuild(node: object, leaves: Sequence[torch.Tensor], used: set[int], depth: int = 0) -> Any:
    """Rebuild the tree over `leaves`; ProtocolError for anything that `describe` does not make."""
    if not isinstance(node, dict) or depth > MAX_DEPTH:
        raise ProtocolError(f"no tree of outputs: {str(node)[:200]}")
    kind, items = node.get("kind"), node.get("items")
    if kind == "none":
        return None
    if kind in ("tuple", "list") and isinstance(items, list):
        rebuilt = [rebuild(item, leaves, used, depth + 1) for item in items]
        return tuple(rebuilt) if kind == "tuple" else rebuilt
    if kind == "dict" and isinstance(items, dict):
        return {key: rebuild(item, leaves, used, depth + 1) for key, item in items.items()}
    if kind == "other":
        return Foreign(str(node.get("type"))[:200])
    leaf = node.get("leaf")
    if kind != "tensor" or type(leaf) is not int or not 0 <= leaf < len(leaves) or leaf in used:
        raise ProtocolError(f"no tree of outputs: {str(node)[:200]}")
    used.add(leaf)
    return _on_device(leaves[leaf], str(node.get("device")))


def _on_device(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """The tensor as it was where it does not lie on the arena's device; one of another GPU without contents."""
    if device == str(tensor.device):
        return tensor
    kind = kind_of(device)
    if kind not in ("cpu", "cuda", "meta"):
        raise ProtocolError(f"a tensor on {device[:50]!r}")
    return tensor.to("cpu" if kind == "cpu" else "meta")
