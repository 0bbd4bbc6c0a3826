#!/usr/bin/env python3
"""Device time of the experts' operators on the rows that vLLM was measured on, and the ratio; a sweep of tiles.

Usage: PYTHONPATH=. python3 benchmarks/moe_anchors.py RESULT.json           (needs a CUDA device; about a minute)
       PYTHONPATH=. python3 benchmarks/moe_anchors.py --sweep RESULT.json [MODEL[:TOKENS] ...]    (about two minutes)

Each row is checked against the native path in float32 first. `chain` is all kernels but the routing, as vLLM's
fused_experts; the columns after it time each operator alone. The sweep times every tile of TILES for both products
and the blocks of rows that could serve, and prints the best.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from device_time import conditions, device_times  # beside this script, so on sys.path

from fastkernels.tasks.baseline.L1.moe_align import MoeAlignBlockSize
from fastkernels.tasks.baseline.L1.moe_grouped_gemm import MoeGroupedGemm, Tile, launch_tiles
from fastkernels.tasks.baseline.L1.moe_sum import MoeSum
from fastkernels.tasks.baseline.L1.silu_and_mul import SiluAndMul
from fastkernels.tasks.baseline.L1.topk_softmax import TopKSoftmax
from fastkernels.tasks.baseline.L2.fused_moe import UNSORTED_EXPERTS_PER_ROW, block_size

ANCHORS = json.loads(Path(__file__).with_name("vllm_moe_anchors.json").read_text())
BF16 = torch.bfloat16
REPEATS = 10
"""As the anchors were measured."""
SWEEP_REPEATS = 4
BEST = 2
"""Tiles that the sweep prints for each product and block."""


@dataclass(frozen=True)
class Model:
    """Sizes of a model's experts."""

    experts: int
    top_k: int
    hidden: int
    inner: int


MODELS = {"mixtral-8x7b": Model(8, 2, 4096, 14336), "qwen3-30b-a3b": Model(128, 8, 2048, 768)}

TILES: dict[int, list[tuple[int, int, int, int]]] = {
    16: [(32, 128, 4, 4), (32, 256, 4, 3), (32, 128, 2, 5), (64, 64, 4, 5), (64, 128, 4, 3), (64, 128, 4, 4),
         (64, 128, 4, 5), (64, 128, 8, 4), (64, 256, 4, 3), (64, 256, 4, 4), (128, 64, 4, 4), (128, 128, 4, 3),
         (128, 128, 8, 3)],
    32: [(64, 64, 4, 4), (64, 128, 4, 3), (64, 128, 4, 4), (128, 64, 4, 4), (128, 128, 4, 3), (128, 128, 8, 3)],
    64: [(64, 64, 4, 4), (64, 128, 4, 3), (64, 128, 4, 4), (128, 64, 4, 3), (128, 64, 4, 4), (128, 64, 4, 5),
         (128, 128, 4, 3), (128, 128, 8, 3), (256, 64, 4, 3), (256, 64, 8, 3), (256, 64, 8, 4)],
    128: [(128, 64, 4, 3), (128, 64, 4, 4), (128, 64, 8, 3), (128, 64, 8, 4), (128, 128, 8, 3), (256, 64, 8, 3),
          (256, 64, 8, 4)],
    256: [(64, 64, 8, 4), (128, 64, 8, 3), (128, 64, 8, 4)],
}  # fmt: skip
"""Tiles of the sweep by rows of a block: (columns, inner step, warps, stages)."""
WITHOUT_MAPS = 64
"""Blocks of more rows are swept with tensor maps only."""


@dataclass
class Layer:
    """The operators of one layer and one batch for it."""

    model: Model
    tokens: int
    up: MoeGroupedGemm
    down: MoeGroupedGemm
    x: torch.Tensor
    logits: torch.Tensor

    def route(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(weights, ids) of the chosen experts."""
        return TopKSoftmax(self.model.top_k)(self.logits)

    def order(self, ids: torch.Tensor, size: int) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """As FusedMoE orders the rows."""
        if ids.numel() * UNSORTED_EXPERTS_PER_ROW <= self.model.experts:
            return None, ids.flatten(), None
        return MoeAlignBlockSize(self.model.experts)(ids, size)

    def steps(self) -> dict[str, Callable[[], torch.Tensor]]:
        """Every operator on the inputs that the others gave it, and the chain of all but the routing."""
        weights, ids = self.route()
        size = block_size(ids.numel(), self.model.experts)
        order = self.order(ids, size)
        act, add = SiluAndMul(), MoeSum()
        gate_up = self.up(self.x, *order)
        y = act(gate_up)
        rows = self.down(y, *order, weights).view(self.tokens, self.model.top_k, -1)

        def chain() -> torch.Tensor:
            order = self.order(ids, size)
            y = self.down(act(self.up(self.x, *order)), *order, weights)
            return add(y.view(self.tokens, self.model.top_k, -1))

        return {
            "chain": chain, "topk": lambda: self.route()[0],
            "align": (lambda: self.order(ids, size)[1]) if order[0] is not None else (lambda: ids),
            "up": lambda: self.up(self.x, *order), "act": lambda: act(gate_up),
            "down": lambda: self.down(y, *order, weights), "sum": lambda: add(rows),
        }  # fmt: skip


def layers(names: list[str]) -> Iterator[tuple[str, Layer]]:
    """Every anchor's layer, those of one model on the same weights; names: MODEL or MODEL:TOKENS, none for all."""
    for name, model in MODELS.items():
        rows = [row["tokens"] for row in ANCHORS["rows"] if row["model"] == name]
        rows = [tokens for tokens in rows if not names or name in names or f"{name}:{tokens}" in names]
        if rows:
            with torch.device("cuda"):
                up = MoeGroupedGemm(model.experts, model.hidden, 2 * model.inner, model.top_k, dtype=BF16)
                down = MoeGroupedGemm(model.experts, model.inner, model.hidden, dtype=BF16)
        for tokens in rows:
            x, logits = (torch.randn(tokens, width, device="cuda") for width in (model.hidden, model.experts))
            yield name, Layer(model, tokens, up, down, x.to(BF16), logits)


def check(layer: Layer, got: torch.Tensor) -> float:
    """Relative error of the chain against the native paths in float32; SystemExit where it is no rounding."""
    weights, ids = TopKSoftmax(layer.model.top_k).forward_native(layer.logits)
    want = torch.zeros_like(layer.x, dtype=torch.float32)
    for expert in ids.unique().tolist():
        token, place = (ids == expert).nonzero(as_tuple=True)
        gate_up = layer.x[token].float() @ layer.up.weight[expert].float().T
        y = SiluAndMul().forward_native(gate_up) @ layer.down.weight[expert].float().T
        want.index_add_(0, token, y * weights[token, place, None])
    error = ((got.float() - want).norm() / want.norm()).item()
    if not error < 1e-2:
        raise SystemExit(f"relative error {error}")
    return error


def measure(name: str, layer: Layer) -> dict[str, Any]:
    """Check and time one anchor."""
    steps = layer.steps()
    error = check(layer, steps["chain"]())
    times = dict(zip(steps, device_times(list(steps.values()), REPEATS), strict=True))
    vllm_us = next(row["us"] for row in ANCHORS["rows"] if (row["model"], row["tokens"]) == (name, layer.tokens))
    model, chain = layer.model, times["chain"].mean_us
    hit = min(model.experts, len(layer.route()[1].unique()))
    return {
        "model": name, "tokens": layer.tokens, "vllm_us": vllm_us, "ratio": vllm_us / chain, "relative_error": error,
        "flops_s": 6 * layer.tokens * model.top_k * model.hidden * model.inner / chain * 1e6,
        "weight_bytes_s": 6 * hit * model.hidden * model.inner / chain * 1e6,
        "us": {step: asdict(time) for step, time in times.items()},
    }  # fmt: skip


def report(names: list[str]) -> list[dict[str, Any]]:
    """Measure every anchor and print the table."""
    columns = ("chain", "topk", "align", "up", "act", "down", "sum")
    print(f"{'model':14} {'tokens':>6} {'vLLM us':>8} {'ratio':>6} {'TFLOP/s':>8} {'TB/s':>5}"
          + "".join(f"{column:>9}" for column in columns))
    results = []
    for name, layer in layers(names):
        result = measure(name, layer)
        results.append(result)
        print(f"{name:14} {layer.tokens:6} {result['vllm_us']:8.1f} {result['ratio']:6.3f} "
              f"{result['flops_s'] / 1e12:8.0f} {result['weight_bytes_s'] / 1e12:5.2f}"
              + "".join(f"{result['us'][column]['mean_us']:9.2f}" for column in columns), flush=True)
    return results


@dataclass(frozen=True)
class Variant:
    """One way to launch a product."""

    top_k: int
    scaled: bool
    block_m: int
    """0: without sorted rows."""
    tile: Tile
    by_map: bool

    def launch(self, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, order: Any, scale: Any) -> None:
        """Run it."""
        launch_tiles(x, weight, out, *order, scale if self.scaled else None, None, self.top_k, self.tile, self.by_map)


def variants(top_k: int, scaled: bool, block_m: int) -> list[Variant]:
    """Every tile for blocks of so many rows, with and without tensor maps, in all orders that make a difference."""
    rows = block_m or 16
    found = []
    for n, k, warps, stages in TILES[rows]:
        for group in (1,) if rows < 64 else (1, 8, 32):
            for by_map in (True, False) if rows <= WITHOUT_MAPS and group == 1 else (True,):
                found.append(Variant(top_k, scaled, block_m, Tile(n, k, group, warps, stages), by_map))
    return found


def blocks_to_try(layer: Layer) -> list[int]:
    """Rows of a block that could serve."""
    choices = layer.tokens * layer.model.top_k
    if choices * UNSORTED_EXPERTS_PER_ROW <= layer.model.experts:
        return [0, 16]
    mean = min(choices / layer.model.experts, max(TILES))
    return [size for size in TILES if mean / 4.5 <= size <= max(16, mean * 4.5)]


def compile_some(wanted: list[Variant]) -> list[str]:
    """Compile variants into Triton's cache by tiny calls; returns what failed."""
    failed = []
    for variant in wanted:
        size = variant.tile.block_k * 2
        x, weight = (torch.zeros(*shape, size, device="cuda", dtype=BF16) for shape in ((16,), (2, 256)))
        out = torch.zeros(16 * variant.top_k, 256, device="cuda", dtype=BF16)
        ids = torch.zeros(16 * variant.top_k, 1, device="cuda", dtype=torch.int32)
        order = MoeAlignBlockSize(2)(ids, variant.block_m) if variant.block_m else (None, ids.flatten(), None)
        try:
            variant.launch(x, weight, out, order, torch.ones(16 * variant.top_k, device="cuda"))
        except Exception as error:
            failed.append(f"{variant}: {type(error).__name__}: {error}")
    return failed


def compile_all(wanted: list[Variant]) -> None:
    """Compile in as many processes as there are cores."""
    workers = max(1, min(16, os.cpu_count() or 1) - 1)
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        for failed in pool.map(compile_some, [wanted[place::workers] for place in range(workers)]):
            for line in failed:
                print(f"  not compiled: {line[:200]}", flush=True)


def sweep(names: list[str]) -> list[dict[str, Any]]:
    """Time every variant of both products; print the best of each block size."""
    found = list(layers(names))
    products = {(top_k, scaled, block) for _, layer in found for block in blocks_to_try(layer)
                for top_k, scaled in ((layer.model.top_k, False), (1, True))}
    wanted = [variant for product in sorted(products) for variant in variants(*product)]
    compile_all([variant for variant in wanted if variant.tile.group_m == 1])
    results = []
    for name, layer in found:
        weights, ids = layer.route()
        for product, op in (("up", layer.up), ("down", layer.down)):
            rows = ids.numel() // op.top_k
            x = torch.randn(rows, op.input_size, device="cuda", dtype=BF16)
            for block in blocks_to_try(layer):
                order = MoeAlignBlockSize(layer.model.experts)(ids, block) if block else (None, ids.flatten(), None)
                timed = time_variants(op, x, order, weights, variants(op.top_k, product == "down", block))
                for us, variant in timed[:BEST]:
                    tile = variant.tile
                    print(f"{name:14} {layer.tokens:5} {product:4} block {block:3} {us:9.2f} us  n {tile.block_n:3} k "
                          f"{tile.block_k:3} group {tile.group_m:2} warps {tile.num_warps} stages {tile.num_stages} "
                          f"{'map' if variant.by_map else ''}", flush=True)
                results += [{"model": name, "tokens": layer.tokens, "product": product, "us": us, **asdict(variant)}
                            for us, variant in timed]
    return results


def time_variants(
    op: MoeGroupedGemm, x: torch.Tensor, order: Any, weights: torch.Tensor, wanted: list[Variant]
) -> list[tuple[float, Variant]]:
    """(us, variant) of those that run, the fastest first; SystemExit where one gives another result."""
    calls, kept = [], []
    out = torch.empty(x.shape[0] * op.top_k, op.output_size, device="cuda", dtype=BF16)
    first = None
    for variant in wanted:
        def call(variant: Variant = variant) -> None:
            variant.launch(x, op.weight, out, order, weights)

        try:
            call()
            torch.cuda.synchronize()
        except Exception as error:  # too much shared memory or too many registers; said by compile_all too
            print(f"  {variant}: {type(error).__name__}", flush=True)
            continue
        if first is None:
            first = out.clone()
        if not torch.allclose(out.float(), first.float(), atol=1e-2, rtol=2e-2):
            raise SystemExit(f"{variant} gives another result than {kept[0]}")
        calls.append(call)
        kept.append(variant)
    times = device_times(calls, SWEEP_REPEATS)
    return sorted(((time.median_us, variant) for time, variant in zip(times, kept, strict=True)), key=lambda x: x[0])


@torch.inference_mode()
def main(arguments: list[str]) -> None:
    """Measure or sweep, and write the file."""
    torch.manual_seed(0)
    run = sweep if arguments[0] == "--sweep" else report
    path, *names = arguments[1:] if arguments[0] == "--sweep" else arguments
    results = run(names)
    source = {key: value for key, value in ANCHORS.items() if key != "rows"}
    Path(path).write_text(json.dumps({"conditions": conditions(), "vllm": source, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1:] == ["--sweep"] or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main(sys.argv[1:])
