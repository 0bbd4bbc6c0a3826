"""Times of the grader against CUPTI in a process of its own: `python benchmarks/timing_truth.py --output FILE`.

Baselines of ten operators at five token counts, each graded against itself. The truth is what CUPTI records of their
kernels in a CUDA graph over hundreds of sets of inputs, and of weights of 256 KiB and more as many copies as the L2
cache cannot hold; the cache is written over before each replay. Nothing else is in the process. A second column has
eager calls with twice the L2 cache written before each.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastkernels.bench.kernels import GraderSettings, KernelGrader  # noqa: E402
from fastkernels.bench.timing import describe_environment  # noqa: E402
from fastkernels.manifest import Scenario, load_manifest  # noqa: E402

OPERATORS = ("rms_norm", "silu_and_mul", "rotary_emb", "linear", "embedding", "topk_softmax", "moe_sum",
             "store_kvcache", "flash_attn_prefill", "flash_attn_decode")
TOKENS = (1, 8, 32, 128, 512, 2048, 8192)
POINTS = 5
"""Token counts of each operator, spread over those that it has."""

SPAN_BYTES = 10**9
"""Inputs, and weights, that a graph's calls rotate over where so many are not too small; MOST_CALLS at most."""

MOST_CALLS = 512
FLUSH_BYTES = 2**28
"""What is written before each replay, so that every set lies cold."""

REPLAYS = 5
LONG_S, MOST, MOST_S = 5e-6, 0.03, 0.15e-6
"""Over LONG_S a time may be off by MOST, a fraction; below by MOST_S."""


@dataclass(frozen=True)
class Row:
    """One baseline."""

    id: str
    graded_s: float
    """What the grader says of the baseline."""
    graph_s: float
    """CUPTI, in a graph."""
    flushed_s: float
    """CUPTI, eager calls after a flush that writes."""
    speedup_low: float
    speedup_high: float

    @property
    def distance_s(self) -> float:
        """From the truth."""
        return self.graded_s - self.graph_s

    @property
    def within(self) -> bool:
        """Whether that is little."""
        return abs(self.distance_s) <= (MOST * self.graph_s if self.graph_s > LONG_S else MOST_S)


def main() -> int:
    """Measure all; 1 where nothing was."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="llama31-8b,mixtral-8x7b", help="models that the shapes are of, TP 1")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="write rows as JSON")
    args = parser.parse_args()
    chosen = scenarios(args.model.split(","))
    with get_context("spawn").Pool(1) as alone:
        truths = dict(zip((one.id for one in chosen), alone.map(truth, chosen, chunksize=len(chosen)), strict=True))
    rows = []
    with KernelGrader(GraderSettings(device="cuda", self_test=True)) as grader:
        for scenario in chosen:
            result = grader.grade(scenario)
            if result.timing is None:
                print(f"{scenario.id}: {result.verdict} {result.message} {result.evidence}")
                continue
            rows.append(Row(scenario.id, result.timing.baseline_s, *truths[scenario.id], result.timing.speedup_low,
                            result.timing.speedup_high))
            print(line(rows[-1]), flush=True)
    args.output.write_text(json.dumps({"environment": describe_environment("cuda"),
                                       "rows": [asdict(row) for row in rows]}, indent=1))
    summary(rows)
    return 0 if rows else 1


def scenarios(models: list[str]) -> list[Scenario]:
    """The points: of each operator the first scenario at each of its first token counts."""
    every = [one for one in load_manifest().scenarios() if one.model in models and one.tp == 1 and one.level == 1]
    found = []
    for op in OPERATORS:
        by_tokens = {one.tokens: one for one in reversed(every) if one.op == op and one.tokens in TOKENS}
        counts = sorted(by_tokens)
        chosen = sorted({round(place * (len(counts) - 1) / (POINTS - 1)) for place in range(POINTS)})
        found += [by_tokens[counts[place]] for place in chosen]
    return found


def truth(scenario: Scenario) -> tuple[float, float]:
    """Seconds of device time a call by CUPTI: in a graph, and eagerly after flushes. Runs in a process of its own."""
    import importlib

    import torch
    from torch.profiler import ProfilerActivity, profile

    from fastkernels.bench.grade import Draw, make_inputs, randomise_weights
    from fastkernels.bench.isolate.build import build
    from fastkernels.bench.timing.capture import capture
    from fastkernels.bench.timing.cupti import CuptiTimer, busy, device_events
    from fastkernels.runtime.invoke import prepared

    device = torch.device("cuda")
    module_file = importlib.import_module(f"fastkernels.tasks.baseline.{scenario.relative_module}")
    module = build(getattr(module_file, scenario.class_name), scenario, device)
    randomise_weights(module, 1)
    own = {name: one.data for name, one in module.named_parameters()}
    inputs = [make_inputs(scenario, Draw("truth", scenario.tokens, seed, "normal", lengths_seed=1), device, module)
              for seed in range(2)]
    size = sum(value.nbytes for value in inputs[0].values() if isinstance(value, torch.Tensor))
    weights = sum(one.nbytes for one in own.values())
    calls = max(4, min(MOST_CALLS, SPAN_BYTES // max(1, size)))
    copies = [{name: one.clone() for name, one in own.items()}
              for _ in range(min(calls, -(-SPAN_BYTES // weights)) if weights > 2**18 else 1)]
    sets = [prepared(module, {name: value.clone() if isinstance(value, torch.Tensor) else value
                              for name, value in inputs[number % 2].items()}) for number in range(calls)]

    def one(index: int) -> object:
        for name, parameter in module.named_parameters():
            parameter.data = copies[index % len(copies)][name]
        return sets[index % calls]()

    kept: list[object] = []

    def run() -> None:
        kept[:] = [one(index) for index in range(calls)]

    with torch.inference_mode():
        graph = capture(device, run)
        flushed = median(CuptiTimer(device).measure(one, 40))
        readings, flush = [], torch.zeros(FLUSH_BYTES // 4, dtype=torch.int32, device=device)
        for _ in range(REPLAYS):
            flush.fill_(1)
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as record:
                graph.replay()
                torch.cuda.synchronize()
            readings.append(busy(device_events(record)) / calls * 1e-6)
    return median(readings), flushed


def line(row: Row) -> str:
    """A row as text."""
    return (f"{row.id:50} graded {row.graded_s * 1e6:8.2f} graph {row.graph_s * 1e6:8.2f} flushed "
            f"{row.flushed_s * 1e6:8.2f} us {row.distance_s / row.graph_s:+.1%} {row.distance_s * 1e6:+.2f} us"
            f"{'' if row.within else '  off'}")


def summary(rows: list[Row]) -> None:
    """How far off the times are, and whether intervals hold 1."""
    long = [row for row in rows if row.graph_s > LONG_S]
    short = [row for row in rows if row.graph_s <= LONG_S]
    if long:
        print(f"over 5 us: {len(long)}, median {median(abs(r.distance_s) / r.graph_s for r in long):.1%}, within "
              f"{MOST:.0%}: {sum(r.within for r in long)}")
    if short:
        print(f"to 5 us: {len(short)}, median {median(abs(r.distance_s) for r in short) * 1e6:.2f} us, within "
              f"{MOST_S * 1e6:.2f} us: {sum(r.within for r in short)}")
    print(f"interval holds 1: {sum(r.speedup_low <= 1 <= r.speedup_high for r in rows)} of {len(rows)}")


if __name__ == "__main__":
    sys.exit(main())
