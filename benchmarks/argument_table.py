"""Asks of every operator's init arguments, inputs and weights in which draw a kernel that ignores them is found.

    PYTHONPATH=. python3 benchmarks/argument_table.py --output docs/argument-table.md [--op rotary_emb]

A kernel that ignores an init argument behaves as if it always had another value of it: one that another shipped shape
has, or a variant (`fastkernels.manifest.variants`). One that ignores an input or a weight gives what it gives with
other values there. Such outputs are judged as a candidate's, in the planned draws in turn, until one is refused.
Exit status 1 where no draw refuses one that is not EXEMPT.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.task_movement import disturbed, redrawn
from benchmarks.task_validity import shrunk
from fastkernels.bench.grade import CallOutcome, Draw, Judge, make_inputs, plan_draws, randomise_weights
from fastkernels.bench.grade.draws import plan_few_draws
from fastkernels.bench.grade.effects import bits, copies
from fastkernels.bench.isolate.build import build, state_of
from fastkernels.bench.kernels import limits
from fastkernels.manifest import Scenario, Selection, load_manifest
from fastkernels.manifest.context import PREFIX
from fastkernels.manifest.variants import variants
from fastkernels.runtime.invoke import invoke
from fastkernels.runtime.parallel import MirroredRank, set_tp_group
from fastkernels.runtime.weights import finish_weights

CPU = torch.device("cpu")
WEIGHTS_SEED, SEED = 3, 1
HIDDEN, INNER = 512, 512
"""Hidden and intermediate sizes of blocks here, at most."""
SIZES = {"hidden_size": HIDDEN, "intermediate_size": INNER, "moe_intermediate_size": INNER}
FEW_HEADS = 8
"""Query heads, one a rank, where their size is that of the stream divided by their number."""
TRIED = 4
"""Other values, and scenarios, that are tried at most."""
NO_DRAW = "no draw follows"
EXEMPT = {
    "max_seqlen_q": "a bound on work: no value follows from it",
    "max_seqlen_k": "a bound on work: no value follows from it",
    "prefill_max_seqlen_k": "a bound on work: no value follows from it",
    "max_position": "a bound on positions: graded by `rotary_emb`, whose positions reach it",
    "max_position_embeddings": "a bound on positions: graded by `rotary_emb`, whose positions reach it",
    "prefix": "a name, from which a layer's number is read in models with two kinds of layers",
    "dtype": "one dtype is shipped",
    "params_dtype": "one dtype is shipped",
    "hidden_act": "one value is taken, others are refused",
    "hidden_activation": "one value is taken, others are refused",
    "mla_decode num_heads": "the query's shape says it", "mla_decode qk_rope_head_dim": "the query's shape says it",
}  # fmt: skip
"""Arguments of which a row may say so where no draw refuses a kernel that ignores them."""


@dataclass(frozen=True)
class Row:
    """What became of one argument."""

    op: str
    kind: str
    """`init`, `input` or `weight`."""
    name: str
    found: str
    """What refuses it, why nothing need, or NO_DRAW."""


def catalogue() -> dict[str, list[Scenario]]:
    """Scenarios of every operator of levels 1 to 3 on one rank, the smallest first, one for each use at TP 8."""
    found: dict[str, dict[Any, Scenario]] = {}
    for scenario in load_manifest().scenarios(Selection(levels=(1, 2, 3))):
        key = (scenario.variant, scenario.phase, scenario.model)
        if scenario.ranks == 1 and key not in found.setdefault(scenario.op, {}) and scenario.tp == 8:
            found[scenario.op][key] = small(scenario)
    return {op: sorted(scenarios.values(), key=_bytes) for op, scenarios in found.items() if scenarios}


def small(scenario: Scenario) -> Scenario:
    """The same with narrow streams and few tokens; heads, experts and groups as they are."""
    init, dims = dict(shrunk(scenario).init), {}
    sizes = SIZES if scenario.level > 1 and scenario.op not in ("parallel_lm_head",) else {}
    for holder in (init, init.get("config")):
        for name, most in sizes.items():
            size = holder.get(name) if isinstance(holder, Mapping) else None
            if isinstance(size, int) and size > most:
                dims[size] = most
    config = init.get("config")
    if config is not None:
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        if scenario.op == "qwen2_decoder_layer":  # its heads' size is a quotient
            dims[config["hidden_size"]] = head * FEW_HEADS
            config = {**config, "num_attention_heads": FEW_HEADS}
        init["config"] = {**config, **{k: dims.get(v, v) for k, v in config.items() if k in SIZES}, "head_dim": head}
    if scenario.op == "qwen2_attention":  # so is this one's
        return replace(scenario, tokens=min(scenario.tokens, 40), golden=None)
    init |= {name: dims.get(value, value) for name, value in init.items() if name in SIZES}
    inputs = tuple(replace(spec, shape=(*spec.shape[:-1], dims.get(spec.shape[-1], spec.shape[-1])))
                   if spec.shape and not spec.name.startswith(PREFIX) else spec for spec in scenario.inputs)
    return replace(scenario, init=init, inputs=inputs, tokens=min(scenario.tokens, 40), golden=None)


def _bytes(scenario: Scenario) -> float:
    """Size of its inputs; decode before prefill, since calls take less."""
    return limits.input_bytes(scenario) + 1e6 * (scenario.phase == "prefill")


def arguments(scenarios: list[Scenario]) -> list[tuple[str, str]]:
    """(kind, name) of each init argument that any scenario or variant names and of each input, in order."""
    every = [*scenarios, *(variant.scenario for scenario in scenarios for variant in variants(scenario))]
    init = dict.fromkeys(name for scenario in every for name in scenario.init)
    inputs = dict.fromkeys(spec.name for scenario in every for spec in scenario.inputs)
    return [*(("init", name) for name in init), *(("input", name) for name in inputs)]


def built(scenario: Scenario) -> nn.Module:
    """The baseline with random weights."""
    with set_tp_group(MirroredRank(scenario.rank, scenario.tp)):
        tasks = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
        module = build(getattr(tasks, scenario.class_name), scenario, CPU)
    randomise_weights(module, WEIGHTS_SEED)
    finish_weights(module)
    return module


def plan_of(scenario: Scenario, is_variant: bool) -> list[Draw]:
    """Its planned draws, several times over where they are few."""
    return plan_few_draws(scenario, SEED, "cpu") if is_variant else plan_draws(scenario, SEED, "cpu")


def refused(scenario: Scenario, module: nn.Module, other: nn.Module, is_variant: bool) -> str:
    """The first draw in which the other module's outputs are refused, and the verdict; '' for none."""
    shapes = [{name: (t.shape, t.dtype) for name, t in state_of(m).items()} for m in (module, other)]
    if shapes[0] != shapes[1]:
        return "wrong_weights"
    judge = Judge(module, scenario)
    with set_tp_group(MirroredRank(scenario.rank, scenario.tp)), torch.inference_mode():
        for draw in plan_of(scenario, is_variant):
            inputs = make_inputs(scenario, draw, CPU, module)
            after = copies(inputs)
            try:
                outputs = invoke(other, after)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                return f"forward_error ({type(error).__name__}) in {draw.hard}"
            verdict = judge.judge(inputs, CallOutcome(outputs, after), draw).verdict
            if not verdict.ok:
                return f"{verdict} in {draw.hard}"
    return ""


def init_row(op: str, name: str, scenarios: list[Scenario]) -> Row:
    """What refuses a kernel that has another value of this init argument than it is given."""
    every = [(scenario, False) for scenario in scenarios]
    every += [(variant.scenario, True) for scenario in scenarios for variant in variants(scenario)]
    values = {repr(scenario.init.get(name)): scenario.init.get(name) for scenario, _ in every}
    if len(values) == 1:  # sizes that `small` has made alike
        values |= {repr(other): other for value in list(values.values()) if type(value) is int
                   for other in (value // 2, value * 2)}
    for scenario in scenarios:
        for variant in variants(scenario):
            if f"{name}=" not in variant.name:
                continue
            ignoring = _built_with(variant.scenario, name, scenario.init.get(name))
            found = "init_error" if ignoring is None else refused(
                variant.scenario, built(variant.scenario), ignoring, is_variant=True)
            return Row(op, "init", name, f"{found} of a variant" if found else _exempt(op, name))
    why_not = ""
    for scenario, is_variant, value in _tried(name, every, list(values.values())):
        ignoring = _built_with(scenario, name, value)
        if ignoring is None:
            why_not = "init_error"
            continue
        found = refused(scenario, built(scenario), ignoring, is_variant)
        if found:
            return Row(op, "init", name, found + (" of a variant" if is_variant else ""))
    return Row(op, "init", name, why_not or _exempt(op, name))


def _tried(name: str, every: list[tuple[Scenario, bool]], values: list[Any]) -> list[tuple[Scenario, bool, Any]]:
    """(scenario, whether a variant, another value): the first few, then those of the first scenario of each value.

    A number four times as large comes last: where there are fewer heads of keys than ranks, each rank has one anyway.
    """
    pairs = [(scenario, is_variant, value) for scenario, is_variant in every for value in values
             if repr(value) != repr(scenario.init.get(name))]
    first: dict[str, Scenario] = {}
    for scenario, _ in every:
        first.setdefault(repr(scenario.init.get(name)), scenario)
    few, rest = pairs[:TRIED * TRIED], pairs[TRIED * TRIED:]
    scenario, is_variant = every[0]
    own = scenario.init.get(name)
    last = [(scenario, is_variant, 4 * own)] if type(own) is int else []
    return [*few, *(pair for pair in rest if pair[0] is first[repr(pair[0].init.get(name))]), *last]


def _exempt(op: str, name: str) -> str:
    return EXEMPT.get(f"{op} {name}") or EXEMPT.get(name, NO_DRAW)


def _built_with(scenario: Scenario, name: str, value: Any) -> nn.Module | None:
    """The module with this value of an init argument (None: without it); None where it takes no such value."""
    init = {key: own for key, own in scenario.init.items() if key != name}
    try:
        return built(replace(scenario, init=init if value is None else {**init, name: value}))
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError):
        return None


def input_row(op: str, name: str, scenarios: list[Scenario]) -> Row:
    """What refuses a kernel for which this input has other values."""
    having = {id(scenario): spec for scenario in scenarios for spec in scenario.inputs if spec.name == name}
    asked = sorted((s for s in scenarios if id(s) in having), key=lambda s: having[id(s)].values == "literal")
    for scenario in asked[:TRIED]:
        module = built(scenario)
        judge = Judge(module, scenario)
        for draw in plan_of(scenario, is_variant=False):
            with set_tp_group(MirroredRank(scenario.rank, scenario.tp)), torch.inference_mode():
                for verdict in _altered(scenario, module, judge, draw, name):
                    if verdict:
                        return Row(op, "input", name, f"{verdict} in {draw.hard}")
    return Row(op, "input", name, _exempt(op, name.removeprefix(PREFIX)))


def _altered(scenario: Scenario, module: nn.Module, judge: Judge, draw: Draw, name: str) -> Iterator[str]:
    """The verdict on a call in which this input has other values, '' for passed."""
    first, second = (make_inputs(scenario, replace(draw, seed=draw.seed + more), CPU, module) for more in (0, 1))
    if not isinstance(first.get(name), torch.Tensor):
        others = [{**first, name: value} for value in _literals(first.get(name))]
    else:
        try:
            others = [found for group, found in redrawn(scenario, first, second)
                      if found is not None and name in group.split("+")]
        except RuntimeError:  # lengths differ
            return
    for inputs in others:
        after = copies(inputs)
        try:
            outputs = invoke(module, after)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            yield f"forward_error ({type(error).__name__})"
            continue
        left = {key: _written(value, inputs[key], after[key]) for key, value in first.items()}
        verdict = judge.judge(first, CallOutcome(outputs, left), draw).verdict
        yield "" if verdict.ok else str(verdict)


def _written(first: Any, before: Any, after: Any) -> Any:
    """The first draw's input with what the call has written into the other one's."""
    if not isinstance(first, torch.Tensor):
        return first
    return torch.where(bits(before) != bits(after), after, first)


def _literals(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value * 2, value - 1] if isinstance(value, int) else [None]


def weight_rows(op: str, scenarios: list[Scenario]) -> Iterator[Row]:
    """What refuses a kernel for which the elements of a weight lie elsewhere."""
    left: dict[str, str] = {}
    kinds: dict[Any, Scenario] = {}
    for scenario in scenarios:  # layers of one class have other weights with experts, with a correction bias
        method = (scenario.init.get("config") or {}).get("topk_method")
        kinds.setdefault(("moe" in scenario.variant, method, scenario.init.get("bias")), scenario)
    for scenario in kinds.values():
        module = built(scenario)
        names = [name for name in state_of(module) if not left.get(name)]
        judge = Judge(module, scenario)
        for draw in plan_of(scenario, is_variant=False) if names else ():
            _ask_weights(scenario, module, judge, draw, left)
    yield from (Row(op, "weight", name, found or NO_DRAW) for name, found in left.items())


def _ask_weights(scenario: Scenario, module: nn.Module, judge: Judge, draw: Draw, left: dict[str, str]) -> None:
    inputs = make_inputs(scenario, draw, CPU, module)
    with set_tp_group(MirroredRank(scenario.rank, scenario.tp)), torch.inference_mode():
        judge.judge(inputs, _called(module, inputs), draw)  # the oracle is made with the weights as they are
        outcomes = {}
        for name in disturbed(module):
            left.setdefault(name, "")
            if not left[name]:
                outcomes[name] = _called(module, inputs)
        for name, outcome in outcomes.items():
            verdict = judge.judge(inputs, outcome, draw).verdict
            left[name] = "" if verdict.ok else f"{verdict} in {draw.hard}"


def _called(module: nn.Module, inputs: dict[str, Any]) -> CallOutcome:
    after = copies(inputs)
    return CallOutcome(invoke(module, after), after)


def rows_of(op: str, scenarios: list[Scenario], weights: bool = False, told: str = "") -> Iterator[Row]:
    """Every row of one operator that `told` does not have."""
    for kind, name in arguments(scenarios):
        if f"| {op} | {kind} | {name} |" not in told:
            yield (init_row if kind == "init" else input_row)(op, name, scenarios)
    if weights:
        yield from weight_rows(op, scenarios)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", nargs="*", default=(), help="operators (default: all)")
    parser.add_argument("--output", type=Path, default=None, help="file to which rows that it lacks are appended")
    parser.add_argument("--weights", action="store_true", help="ask the same of every weight")
    options = parser.parse_args()
    torch.set_num_threads(1)
    told = options.output.read_text() if options.output is not None and options.output.exists() else ""
    missing = 0
    for op, scenarios in catalogue().items():
        for row in rows_of(op, scenarios, options.weights, told) if not options.op or op in options.op else ():
            missing += row.found == NO_DRAW
            line = f"| {row.op} | {row.kind} | {row.name} | {row.found} |"
            print(line, flush=True)
            if options.output is not None:
                with options.output.open("a") as table:
                    table.write(line + "\n")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
