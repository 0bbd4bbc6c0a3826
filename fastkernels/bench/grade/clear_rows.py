"""Rows of a model's embedding by which every router chooses experts by a clear margin.

What a router within a model sees no input prescribes, but the token's own row is most of it. The grader therefore gives
the table rows whose logits it knows, far enough apart to outdo what the layers before the router add.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fastkernels.bench.grade.noise import seeded
from fastkernels.bench.grade.routed import CORRECTION
from fastkernels.manifest.scenario import InputSpec, Scenario
from fastkernels.runtime.parallel import tp_group

PATTERNS = 509
"""Different choices of experts; rows of the table take turns. A prime, so that no stride of ids meets few of them."""

HIGH, LOW = (12.0, 15.0), (-15.0, -12.0)
"""Logits that a row gives chosen experts and others, before the norm: both are some times what layers add to them."""

LEAN = 0.5
"""An expert, or a group, whose correction bias is lower than others' by more than this is not chosen. One expert that
is so low has a chosen one's logit all the same, so that a bias that is ignored shows."""

CHUNK_ROWS = 8192
"""Rows of the table changed at once."""


@dataclass(frozen=True)
class Router:
    """A layer's router."""

    gate: torch.Tensor
    """[E, H] float64: its weight times that of the norm before it."""
    bias: torch.Tensor | None
    """[E] float64: what is added to its scores for the choice; None for nothing."""


def clear_choices(module: nn.Module, scenario: Scenario, seed: int) -> None:
    """Give the embedding of a model with experts rows of clear choices, in place; other modules stay as they are.

    To be called within the tensor parallel group that the module is called in.
    """
    for spec in scenario.inputs:
        if spec.values == "routed_ids":
            _change_table(dict(module.named_parameters()), spec, seed)


def _change_table(weights: Mapping[str, torch.Tensor], spec: InputSpec, seed: int) -> None:
    table, routers = _named(weights, str(spec.args["table"]), spec.name), _routers(weights, spec)
    generator = seeded(table.device, seed, "choices")
    gates = torch.cat([router.gate for router in routers])
    spread = torch.linalg.solve(gates @ gates.T, gates)  # [E, H]: what of a row its logits are made of
    own = torch.cat([_logits(router, spec, generator) for router in routers], dim=1) @ spread
    # Of a rank that stands alone the sum over ranks is a multiple of its own part.
    own /= tp_group().all_reduce(torch.ones(1, device=table.device, dtype=own.dtype))
    gates, spread, own = gates.float(), spread.float(), own.float()
    with torch.no_grad():
        for first in range(0, len(table), CHUNK_ROWS):
            rows = table[first:first + CHUNK_ROWS]
            which = torch.arange(first, first + len(rows), device=table.device) % PATTERNS
            wide = rows.float()
            rows.copy_(wide - (wide @ gates.T) @ spread + own[which])


def _logits(router: Router, spec: InputSpec, generator: torch.Generator) -> torch.Tensor:
    """[PATTERNS, E] float64: those of `top_k` experts are high, of as many in each of `top_groups` groups."""
    experts, top_k = len(router.gate), int(spec.args["top_k"])
    groups = int(spec.args.get("groups", 1))
    top_groups = int(spec.args.get("top_groups", groups))
    each = top_k // top_groups

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, device=router.gate.device, dtype=torch.float64)

    bias = torch.zeros(experts).to(router.gate) if router.bias is None else router.bias
    order = LEAN * uniform(PATTERNS, groups, experts // groups) + bias.view(groups, -1)
    of_group = LEAN * uniform(PATTERNS, groups) + bias.view(groups, -1).topk(each, dim=1).values.mean(dim=1)
    left_out = torch.ones(PATTERNS, groups, dtype=torch.bool, device=order.device)
    left_out.scatter_(1, of_group.topk(top_groups, dim=1).indices, False)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(2, order.topk(each, dim=2).indices, True)
    chosen &= ~left_out.unsqueeze(2)
    high = chosen.view(PATTERNS, experts) | (bias < bias.median() - LEAN)
    noise = uniform(PATTERNS, experts)
    above, below = (least + (most - least) * noise for least, most in (HIGH, LOW))
    return torch.where(high, above, below)


def _routers(weights: Mapping[str, torch.Tensor], spec: InputSpec) -> list[Router]:
    """The router of every layer that has one."""
    gates, norms = str(spec.args["gates"]), str(spec.args["norms"])
    pattern = re.compile(re.escape(gates).replace(re.escape("*"), r"(\d+)"))
    found = [match for name in weights if (match := pattern.fullmatch(name))]
    if not found:
        _named(weights, gates, spec.name)
    routers = []
    for match in found:
        name, norm = match.string, _named(weights, norms.replace("*", match.group(1)), spec.name)
        bias = weights.get(name.removesuffix("weight") + CORRECTION)
        routers.append(Router((weights[name].double() * norm.double()).detach(),
                              None if bias is None else bias.detach().double()))
    return routers


def _named(weights: Mapping[str, torch.Tensor], name: str, where: str) -> torch.Tensor:
    if name not in weights:
        raise ValueError(f"input {where}: the module has no weight {name!r}; it has {', '.join(weights) or 'none'}")
    return weights[name]
