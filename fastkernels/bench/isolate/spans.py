"""Which memory tensors lie in, and what an output shares it with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

Span = tuple[str, int, int]
"""Device, first address, and the one behind the last."""


def shared_memory(
    leaves: Sequence[torch.Tensor], inputs: Mapping[str, Any], held: Mapping[str, torch.Tensor],
    previous: Sequence[torch.Tensor],
) -> list[list[Any]]:  # fmt: skip
    """[leaf, what] for each output that shares memory with an input, a weight or an output of the call before."""
    places = [(f"input {name}", span(value)) for name, value in inputs.items() if isinstance(value, torch.Tensor)]
    places += [(f"weight {name}", span(tensor)) for name, tensor in held.items()]
    places += [("previous call", span(tensor)) for tensor in previous]
    spans = [span(leaf) for leaf in leaves]
    found = [[i, what] for i, one in enumerate(spans) for what, place in places if overlap(one, place)]
    return found + [[i, f"output {j}"] for i in range(len(spans)) for j in range(i) if overlap(spans[i], spans[j])]


def span(tensor: torch.Tensor) -> Span:
    """Device and address range of a tensor's elements."""
    if tensor.numel() == 0 or tensor.device.type == "meta":
        return "", 0, 0
    extent = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return str(tensor.device), tensor.data_ptr(), tensor.data_ptr() + extent * tensor.element_size()


def overlap(a: Span, b: Span) -> bool:
    """Whether two ranges have an address in common."""
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]
