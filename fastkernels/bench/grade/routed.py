"""Hidden states whose experts are chosen by a clear margin.

Which experts a router takes is a step function: of two whose scores differ by less than rounding either may be taken,
and the outputs then have nothing in common. The grader therefore prescribes the router's logits.
"""

import torch

from fastkernels.bench.grade.request import Request

CHOSEN = (1.0, 3.0)
"""Logits of the experts to be chosen, uniform between these, where a row has a root mean square of 1."""

OTHERS = (-3.0, -1.0)
"""Logits of the others."""

BEST, REST, DECOY = (3.0, 3.5), (1.0, 1.5), (2.0, 2.5)
"""Where groups decide: logits of the first and of the further experts of a chosen group, and of one expert of each
other group. That one beats all but the first, so that a router which ignores groups takes it; but its group ranks
clearly behind the chosen ones, by the best expert (3 to 2.5) and by the sum of two, where its second is of OTHERS."""

CORRECTION = "e_score_correction_bias"
"""Name of the bias that is added to a router's scores (the sigmoid of its logits) for the choice alone."""

BANNED = 0.5
"""An expert whose bias is so much lower than most others' is not to be chosen, whatever its logit."""

HIGH_LOGIT = 100.0
"""What all logits of a row are raised by in moderate draws where their softmax is what counts, which stays the same: an
exponential without the largest logit taken off is infinite."""

CONTESTED = (0.01, 0.97)
"""Margin by which such a bias decides, in scores, and the largest score at which it may."""


def route(x: torch.Tensor, request: Request) -> torch.Tensor:
    """Move x: [T, H] by the least that gives its router the wanted logits, in proportion to each row; in place.

    `gate`: name of the router's weight [E, H] in the module; `top_k` experts, and where the router limits itself to
    `top_groups` of `groups` groups, as many in each of those. `bias`, `norm`: names of the router's bias [E] and of the
    norm weight [H] before it, if any. `least`: rows of less than this root mean square are brought up to it, by what no
    expert of the router sees: a norm would make their logits large, and apart by more than the chosen's weights may be.
    In a layer the router sees more than x: `beside`, an earlier input that is added to it, is reckoned with, and a
    `margin` (logits by which the chosen lie further above the others) outdoes attention's output, without drawing the
    chosen apart, whose weights all stay to be seen. A correction bias beside the router's weight decides in many rows.
    """
    gate = _weight(request, "gate")
    if "norm" in request.args:
        gate = gate * _weight(request, "norm")
    wide = x.to(torch.float64)
    other = request.drawn[request.args["beside"]].to(torch.float64) if "beside" in request.args else 0.0
    seen = wide + other
    least = float(request.args.get("least", 0.0))
    scale = seen.square().mean(dim=1, keepdim=True).sqrt().clamp(min=least)
    correction = request.weights.get(str(request.args["gate"]).removesuffix("weight") + CORRECTION)
    bias = None if correction is None else correction.detach().to(torch.float64)
    logits, chosen = _logits(request, x.shape[0], gate.shape[0], bias)
    half, high = float(request.args.get("margin", 0.0)) / 2, chosen
    if bias is not None and "margin" not in request.args:
        logits = _contested(logits, chosen, scale, bias, int(request.args.get("groups", 1)))
    elif bias is not None:
        high = chosen | (_banned(bias) & _in_chosen_groups(chosen, int(request.args.get("groups", 1))))
        logits = torch.where(high & ~chosen, CHOSEN[1], logits)
    wanted = torch.where(high, logits + half, logits - half) * scale
    if "bias" in request.args:
        wanted -= _weight(request, "bias") * scale.clamp(max=1.0)
    moved = _seen_by(gate, wanted - seen @ gate.T)
    if least:
        moved += _unseen_by(gate, seen + moved, least, request)
    return x.copy_(wide + moved)


def router_logits(request: Request) -> torch.Tensor:
    """Logits [T, E] of `top_k` experts, chosen by a clear margin (`groups`, `top_groups` as above).

    `correction`: an earlier input [E], the bias that is added to scores; it decides in many rows.
    """
    corrected = "correction" in request.args
    bias = request.drawn[request.args["correction"]].to(torch.float64) if corrected else None
    tokens, experts = request.shape
    logits, chosen = _logits(request, tokens, experts, bias)
    if bias is not None:
        logits = _contested(logits, chosen, torch.ones_like(logits[:, :1]), bias, int(request.args.get("groups", 1)))
    elif request.hard == "moderate":
        logits += HIGH_LOGIT
    return logits.to(request.dtype)


def _seen_by(gate: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The least rows [T, H] of which a router's weight [E, H] makes these logits [T, E]."""
    coefficients: torch.Tensor = torch.linalg.solve(gate @ gate.T, logits.T)
    return coefficients.T @ gate


def _unseen_by(gate: torch.Tensor, rows: torch.Tensor, least: float, request: Request) -> torch.Tensor:
    """What brings these rows up to a root mean square of `least` and their router's logits leaves as they are."""
    noise = torch.randn(rows.shape, generator=request.generator, device=rows.device, dtype=rows.dtype)
    noise -= _seen_by(gate, noise @ gate.T)
    square = rows.square().mean(dim=1, keepdim=True)
    return noise * ((least**2 - square).clamp(min=0.0) / noise.square().mean(dim=1, keepdim=True)).sqrt()


def _contested(
    logits: torch.Tensor, chosen: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, groups: int
) -> torch.Tensor:
    """Logits [T, E] of which one more has a better score than a chosen one, and the bias alone keeps it out.

    It is the one with the least bias of the chosen groups' others; rows where that is not small enough stay.
    """
    margin, most = CONTESTED
    of_group = _in_chosen_groups(chosen, groups)
    scores = torch.sigmoid(logits * scale).masked_fill(~chosen, torch.inf)
    least, rival = bias.expand_as(logits).masked_fill(chosen | ~of_group, torch.inf).min(dim=1, keepdim=True)
    score = ((scores + bias).amin(dim=1, keepdim=True) - margin - least).clamp(max=most)
    moved = logits.scatter(1, rival, torch.logit(score.clamp(1e-6, 1 - 1e-6)) / scale)
    decides = (score > scores.amin(dim=1, keepdim=True) + margin) & least.isfinite() & (scale > 0.0)
    return torch.where(decides, moved, logits)


def _in_chosen_groups(chosen: torch.Tensor, groups: int) -> torch.Tensor:
    """[T, E]: experts of groups in which one is to be chosen."""
    tokens, experts = chosen.shape
    return chosen.view(tokens, groups, -1).any(dim=2).repeat_interleave(experts // groups, dim=1)


def _banned(bias: torch.Tensor) -> torch.Tensor:
    """[E]: experts that their bias keeps out."""
    return bias < bias.median() - BANNED


def _weight(request: Request, argument: str) -> torch.Tensor:
    name = str(request.args[argument])
    if name not in request.weights:
        raise ValueError(f"input {request.name}: {argument}: the module has no weight {name!r}; it has "
                         f"{', '.join(request.weights) or 'none'}")
    return request.weights[name].detach().to(torch.float64)


def _logits(
    request: Request, tokens: int, experts: int, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits [tokens, experts] float64, which of them are to be chosen: none that `bias` keeps out)."""
    top_k, groups = int(request.args["top_k"]), int(request.args.get("groups", 1))
    top_groups = int(request.args.get("top_groups", groups)) if groups > 1 else 1
    if top_k % top_groups or top_k // top_groups > experts // groups:
        raise ValueError(f"input {request.name}: {top_k} experts do not spread evenly over {top_groups} groups of "
                         f"{experts // groups}")

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=request.generator, device=request.device, dtype=torch.float64)

    by_group = uniform(tokens, groups).argsort(dim=1)[:, :top_groups]
    order = uniform(tokens, groups, experts // groups)
    if bias is not None:
        order += _banned(bias).view(groups, -1)
    within_all = order.argsort(dim=2)
    within = within_all[:, :, :top_k // top_groups]
    chosen = torch.zeros(tokens, groups, experts // groups, dtype=torch.bool, device=request.device)
    picked = within.gather(1, by_group.unsqueeze(2).expand(-1, -1, within.shape[2]))
    rows = torch.arange(tokens, device=request.device).view(-1, 1, 1)
    chosen[rows, by_group.unsqueeze(2), picked] = True
    noise = uniform(tokens, experts)
    high, low, best, rest, decoy = (
        edges[0] + (edges[1] - edges[0]) * noise for edges in (CHOSEN, OTHERS, BEST, REST, DECOY))
    is_chosen = chosen.view(tokens, experts)
    logits = torch.where(is_chosen, high, low)
    # In a layer attention moves the logits as well: the margins there stay as wide as can be.
    if top_groups == groups or top_k == top_groups or "margin" in request.args:
        return logits, is_chosen
    first = torch.zeros_like(chosen)
    first.scatter_(2, within_all[:, :, :1], True)
    in_group = chosen.any(dim=2, keepdim=True)
    leads, decoys = ((first & mask).view(tokens, experts) for mask in (in_group, ~in_group))
    logits = torch.where(is_chosen, torch.where(leads, best, rest), logits)
    return torch.where(decoys, decoy, logits), is_chosen
