#!/usr/bin/env python3
"""Device time of the level 1 operators on the rows that vLLM was measured on, and the ratio.

Usage: PYTHONPATH=. python3 benchmarks/l1_anchors.py RESULT.json      (needs a CUDA device; about 20 s)

Beside every row stands a copy of as many bytes, timed in the same session: what the memory gives at that size.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from device_time import conditions, device_times  # beside this script, so on sys.path

from fastkernels.tasks.baseline.L1.embedding import Embedding
from fastkernels.tasks.baseline.L1.gelu_and_mul import GeluAndMul
from fastkernels.tasks.baseline.L1.linear import Linear
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
from fastkernels.tasks.baseline.L1.rotary_emb import RotaryEmbedding
from fastkernels.tasks.baseline.L1.silu_and_mul import SiluAndMul
from fastkernels.tasks.baseline.L1.store_kvcache import StoreKVCache
from fastkernels.tasks.baseline.L1.topk_softmax import TopKSoftmax

TOKENS = (1, 32, 512, 4096)
BF16 = torch.bfloat16
ANCHORS = Path(__file__).with_name("vllm_anchors.json")


@dataclass(frozen=True)
class Row:
    """One operator at one size."""

    op: str
    width: int
    """Elements of a token's row that name the shape."""
    tokens: int
    call: Callable[[], object]
    bytes: int
    """Least bytes of the call, by the operator's own count."""


def randn(*shape: int) -> torch.Tensor:
    """bf16 normal values on the GPU."""
    return torch.randn(*shape, device="cuda", dtype=BF16)


def row(name: str, width: int, tokens: int, op: Any, **inputs: Any) -> Row:
    """The row of one operator; its bytes come from work()."""
    copies = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in inputs.items()}
    outputs = op(**copies)
    outputs = () if outputs is None else outputs if isinstance(outputs, tuple) else (outputs,)
    return Row(name, width, tokens, lambda: op(**inputs), op.work(inputs, outputs).bytes)


def anchor_rows(tokens: int) -> list[Row]:
    """The rows that vLLM was measured on."""
    rows = []
    for hidden in (4096, 8192):
        norm = RMSNorm(hidden, 1e-5, dtype=BF16)
        rows.append(row("rms_norm", hidden, tokens, norm, x=randn(tokens, hidden)))
        pair = {"x": randn(tokens, hidden), "residual": randn(tokens, hidden)}
        rows.append(row("fused_add_rms_norm", hidden, tokens, norm, **pair))
    rows.append(row("silu_and_mul", 14336, tokens, SiluAndMul(), x=randn(tokens, 2 * 14336)))
    rotary = RotaryEmbedding(128, 128, 131072, 500000.0, dtype=BF16)
    positions = torch.arange(tokens, device="cuda")
    inputs = {"positions": positions, "query": randn(tokens, 4096), "key": randn(tokens, 1024)}
    return [*rows, row("rotary_embedding", 5120, tokens, rotary, **inputs)]


def other_rows(tokens: int) -> list[Row]:
    """Operators without a vLLM figure."""
    ids = torch.randint(128256, (tokens,), device="cuda")
    heads = {"key": randn(tokens, 8, 128), "value": randn(tokens, 8, 128)}
    caches = {"key_cache": randn(1024, 16, 8, 128), "value_cache": randn(1024, 16, 8, 128)}
    return [
        row("qk_norm, 32 heads", 128, tokens, RMSNorm(128, 1e-6, dtype=BF16), x=randn(tokens, 32, 128)),
        row("gelu_and_mul (tanh)", 10240, tokens, GeluAndMul("tanh"), x=randn(tokens, 2 * 10240)),
        row("embedding", 4096, tokens, Embedding(128256, 4096, dtype=BF16), input_ids=ids),
        row("topk_softmax, 2 of 8", 8, tokens, TopKSoftmax(2), gating_output=randn(tokens, 8)),
        row("topk_softmax, 8 of 128", 128, tokens, TopKSoftmax(8), gating_output=randn(tokens, 128)),
        row("store_kvcache", 1024, tokens, StoreKVCache(), **heads, **caches,
            slot_mapping=torch.randperm(16384, device="cuda")[:tokens]),
        row("linear 4096 x 4096", 4096, tokens, Linear(4096, 4096, dtype=BF16), x=randn(tokens, 4096)),
    ]


def same_bytes_copy(count: int) -> Callable[[], object]:
    """A copy that reads half of the bytes and writes the other half."""
    source = torch.empty(max(2, count // 4), dtype=BF16, device="cuda").normal_()
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def measure(item: Row, anchor: dict[str, float] | None, copy_bytes_s: float) -> dict[str, Any]:
    """Time one row and put it beside vLLM's figure and the copy of its size."""
    ours, copy = device_times([item.call, same_bytes_copy(item.bytes)])
    vllm_us = anchor["us"] if anchor else None
    bytes_s = item.bytes / ours.mean_us * 1e6
    return {
        "op": item.op, "width": item.width, "tokens": item.tokens, "ours": asdict(ours), "vllm_us": vllm_us,
        "ratio": vllm_us / ours.mean_us if vllm_us else None, "bytes": item.bytes, "bytes_s": bytes_s,
        "of_large_copy": bytes_s / copy_bytes_s, "copy": asdict(copy), "of_same_copy": copy.mean_us / ours.mean_us,
    }  # fmt: skip


def line(result: dict[str, Any]) -> str:
    """One line of the table."""
    vllm = f"{result['vllm_us']:8.2f} {result['ratio']:6.2f}" if result["ratio"] else f"{'-':>8} {'-':>6}"
    return (
        f"{result['op']:24} {result['width']:6} {result['tokens']:6} {result['ours']['mean_us']:8.2f} {vllm} "
        f"{result['bytes_s'] / 1e12:6.2f} {result['copy']['mean_us']:8.2f} {result['of_same_copy']:6.2f}"
    )


@torch.inference_mode()
def main(path: Path) -> None:
    """Measure every row, print the table, write the file."""
    torch.set_default_device("cuda")
    anchors = json.loads(ANCHORS.read_text())
    by_row = {(a["op"], a["width"], a["tokens"]): a for a in anchors["rows"]}
    print(f"{'operator':24} {'width':>6} {'tokens':>6} {'us':>8} {'vLLM us':>8} {'ratio':>6} {'TB/s':>6} "
          f"{'copy us':>8} {'/copy':>6}")
    results = []
    for rows in (anchor_rows, other_rows):
        for tokens in TOKENS:
            for item in rows(tokens):
                anchor = by_row.get((item.op, item.width, item.tokens))
                results.append(measure(item, anchor, anchors["copy_bytes_s"]))
                print(line(results[-1]), flush=True)
        source = {key: value for key, value in anchors.items() if key != "rows"}
        path.write_text(json.dumps({"conditions": conditions(), "vllm": source, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
