"""Rows of a model's embedding by which every router chooses experts by a clear margin.

What a router within a model sees no input prescribes, but the token's own row is most of it. The grader therefore gives
the table rows whose logits it knows, far enough apart to outdo what the layers before the router add.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from fastkernels.bench.grade.noise import seeded
from fastkernels.bench.grade.request import Request
from fastkernels.bench.grade.routed import rows_for
from fastkernels.manifest.scenario import InputSpec, Scenario
from fastkernels.runtime.parallel import tp_group

PATTERNS = 509
"""Different choices of experts; rows of the table take turns. A prime, so that no stride of ids meets few of them."""

MARGIN = 14.0
"""By which the logits of chosen experts lie further above the others', beside what `routed` has."""

STRENGTH = 1.5
"""Times all that: a row's own part of what its routers see."""

CHUNK_ROWS = 8192
"""Rows of the table changed at once."""


def clear_choices(module: nn.Module, scenario: Scenario, seed: int) -> None:
    """Give the embedding of a model with experts rows of clear choices, in place; other modules stay as they are.

    To be called within the tensor parallel group that the module is called in.
    """
    for spec in scenario.inputs:
        if spec.values == "routed_ids":
            _change_table(dict(module.named_parameters()), spec, seed)


def _change_table(weights: Mapping[str, torch.Tensor], spec: InputSpec, seed: int) -> None:
    table = _named(weights, str(spec.args["table"]), spec.name)
    routers = [gate.float() * norm.float() for gate, norm in _routers(weights, spec)]
    request = Request(name=spec.name, shape=(), dtype=None, args={**spec.args, "margin": MARGIN}, phase="", hard="",
                      generator=seeded(table.device, seed, "choices"), drawn={}, sources={})
    # Of a rank that stands alone the sum over ranks is a multiple of its own part.
    own = rows_for(routers, PATTERNS, request, STRENGTH) / tp_group().all_reduce(torch.ones(1, device=table.device))
    gates = torch.cat(routers)
    spread = torch.linalg.solve(gates @ gates.T, gates)  # [E, H]: what of a row its logits are made of
    with torch.no_grad():
        for first in range(0, len(table), CHUNK_ROWS):
            rows = table[first:first + CHUNK_ROWS]
            which = torch.arange(first, first + len(rows), device=table.device) % PATTERNS
            wide = rows.float()
            rows.copy_(wide - (wide @ gates.T) @ spread + own[which])


def _routers(weights: Mapping[str, torch.Tensor], spec: InputSpec) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, weight of the norm before it) of every layer that has a router."""
    gates, norms = str(spec.args["gates"]), str(spec.args["norms"])
    pattern = re.compile(re.escape(gates).replace(re.escape("*"), r"(\d+)"))
    found = [match for name in weights if (match := pattern.fullmatch(name))]
    if not found:
        _named(weights, gates, spec.name)
    return [(weights[match.string], _named(weights, norms.replace("*", match.group(1)), spec.name)) for match in found]


def _named(weights: Mapping[str, torch.Tensor], name: str, where: str) -> torch.Tensor:
    if name not in weights:
        raise ValueError(f"input {where}: the module has no weight {name!r}; it has {', '.join(weights) or 'none'}")
    return weights[name]
