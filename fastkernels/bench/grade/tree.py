"""Trees of outputs: names of their leaves, and where two trees differ."""

from typing import Any

import torch

from fastkernels.results import Verdict


def leaves(tree: Any, name: str = "output") -> dict[str, Any]:
    """Leaves by name, depth first: `output`, `output[1]`, `output['key']`; None is a leaf."""
    if isinstance(tree, tuple | list):
        items: list[tuple[Any, Any]] = list(enumerate(tree))
    elif isinstance(tree, dict):
        items = list(tree.items())
    else:
        return {name: tree}
    return {leaf: value for key, item in items for leaf, value in leaves(item, f"{name}[{key!r}]").items()}


def tensors(tree: Any, name: str = "output") -> dict[str, torch.Tensor]:
    """The leaves that are tensors."""
    return {leaf: value for leaf, value in leaves(tree, name).items() if isinstance(value, torch.Tensor)}


def difference(expected: Any, got: Any) -> tuple[Verdict, str] | None:
    """Return the first difference in structure, shape, dtype or device, or None."""
    message = _shape_of_tree(expected, got, "output")
    if message:
        return Verdict.WRONG_STRUCTURE, message
    pairs = [(name, e, g) for (name, e), g in zip(leaves(expected).items(), leaves(got).values(), strict=True)
             if isinstance(e, torch.Tensor)]
    for name, e, g in pairs:
        if e.shape != g.shape:
            return Verdict.WRONG_SHAPE, f"{name}: expected shape {list(e.shape)}, got {list(g.shape)}"
    for name, e, g in pairs:
        if e.dtype != g.dtype:
            return Verdict.WRONG_DTYPE, f"{name}: expected {dtype_name(e)}, got {dtype_name(g)}"
    for name, e, g in pairs:
        if e.device.type != g.device.type:
            where = "another GPU, or meta" if g.device.type == "meta" and e.is_cuda else g.device.type
            return Verdict.WRONG_DEVICE, f"{name}: expected on {e.device.type}, got on {where}"
    return None


def dtype_name(tensor: torch.Tensor) -> str:
    """`bfloat16` for a tensor of torch.bfloat16."""
    return str(tensor.dtype).removeprefix("torch.")


def _shape_of_tree(expected: Any, got: Any, name: str) -> str:
    """One line on the first node where the trees differ; empty where they agree."""
    if _kind(expected) != _kind(got):
        return f"{name}: expected {_kind(expected)}, got {_kind(got)}"
    if isinstance(expected, dict):
        if list(expected) != list(got):
            return f"{name}: expected the keys {', '.join(map(repr, expected))}, got {', '.join(map(repr, got))}"
        items = [(f"{name}[{key!r}]", expected[key], got[key]) for key in expected]
    elif isinstance(expected, tuple | list):
        if len(expected) != len(got):
            return f"{name}: expected {len(expected)} items, got {len(got)}"
        items = [(f"{name}[{i}]", e, g) for i, (e, g) in enumerate(zip(expected, got, strict=True))]
    else:
        return ""
    return next((message for leaf, e, g in items if (message := _shape_of_tree(e, g, leaf))), "")


def _kind(node: Any) -> str:
    """How messages name a node."""
    if node is None:
        return "None"
    if type(node) in (torch.Tensor, torch.nn.Parameter):
        return "a tensor" if node.layout is torch.strided else f"a {str(node.layout).removeprefix('torch.')} tensor"
    if type(node) in (tuple, list, dict):
        return f"a {type(node).__name__}"
    return f"an object of type {getattr(node, 'type_name', type(node).__name__)}"
