#!/usr/bin/env python3
"""Device time of the attention operators on the rows that vLLM was measured on, and the ratio.

Usage: PYTHONPATH=. python3 benchmarks/attention_anchors.py RESULT.json      (needs a CUDA device; about 20 s)

Each row is checked against the native path in float32 first. Prefill also shows torch's own SDPA through cuDNN.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from device_time import conditions, device_time  # beside this script, so on sys.path
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastkernels.tasks.baseline.L1.flash_attn_decode import FlashAttnDecode
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill

ANCHORS = json.loads(Path(__file__).with_name("vllm_attention_anchors.json").read_text())
HEADS, KV_HEADS, DIM, PAGE = (ANCHORS[key] for key in ("heads", "kv_heads", "head_size", "page_size"))
REPEATS = 20
"""As the anchors were measured."""
CHECKED_ELEMENTS = 2**27
"""Inputs of more elements are checked at other sizes, by the operator's tests."""


def randn(*shape: int) -> torch.Tensor:
    """bf16 normal values on the GPU."""
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def prefill_inputs(sequences: int, length: int) -> dict[str, Any]:
    """Prompts of equal length, packed."""
    tokens = sequences * length
    starts = torch.arange(0, tokens + 1, length, device="cuda", dtype=torch.int32)
    return {
        "query": randn(tokens, HEADS, DIM), "key": randn(tokens, KV_HEADS, DIM), "value": randn(tokens, KV_HEADS, DIM),
        "cu_seqlens_q": starts, "cu_seqlens_k": starts, "max_seqlen_q": length, "max_seqlen_k": length,
    }  # fmt: skip


def decode_inputs(sequences: int, length: int) -> dict[str, Any]:
    """Contexts of equal length, their pages in random order."""
    pages = length // PAGE
    table = torch.randperm(sequences * pages, device="cuda").to(torch.int32).view(sequences, pages)
    return {
        "query": randn(sequences, HEADS, DIM), "key_cache": randn(sequences * pages, PAGE, KV_HEADS, DIM),
        "value_cache": randn(sequences * pages, PAGE, KV_HEADS, DIM), "block_table": table,
        "seqused_k": torch.full((sequences,), length, device="cuda", dtype=torch.int32), "max_seqlen_k": length,
    }  # fmt: skip


OPERATORS = {
    "flash_attn_prefill": (FlashAttnPrefill(HEADS, DIM, DIM**-0.5, KV_HEADS), prefill_inputs),
    "flash_attn_decode": (FlashAttnDecode(HEADS, DIM, DIM**-0.5, KV_HEADS), decode_inputs),
}


def cudnn_sdpa(inputs: dict[str, Any], sequences: int) -> Callable[[], torch.Tensor]:
    """Torch's SDPA, cuDNN backend, on the same tensors as [B, H, T, D]."""
    views = [inputs[name].unflatten(0, (sequences, -1)).transpose(1, 2) for name in ("query", "key", "value")]

    def call() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(*views, is_causal=True, enable_gqa=True)

    return call


def relative_error(op: Any, inputs: dict[str, Any]) -> float | None:
    """||got - native in float32|| / ||native||."""
    if max(x.numel() for x in inputs.values() if isinstance(x, torch.Tensor)) > CHECKED_ELEMENTS:
        return None
    half = torch.bfloat16
    wide = {k: v.float() if isinstance(v, torch.Tensor) and v.dtype == half else v for k, v in inputs.items()}
    want = op.forward_native(**wide)
    error = ((op(**inputs).float() - want).norm() / want.norm()).item()
    if not error < 5e-3:
        raise SystemExit(f"relative error {error}")
    return error


def measure(row: dict[str, Any]) -> dict[str, Any]:
    """Check and time one row."""
    op, make = OPERATORS[row["op"]]
    inputs = make(row["sequences"], row["length"])
    error = relative_error(op, inputs)
    work = op.work(inputs, (op(**inputs),))
    ours = device_time(lambda: op(**inputs), REPEATS)
    result = {
        **{key: row[key] for key in ("op", "sequences", "length")}, "ours": asdict(ours), "vllm_us": row["us"],
        "ratio": row["us"] / ours.mean_us, "flops_s": work.flops / ours.mean_us * 1e6,
        "bytes_s": work.bytes / ours.mean_us * 1e6, "relative_error": error,
    }  # fmt: skip
    if row["op"] == "flash_attn_prefill":
        result["cudnn_sdpa"] = asdict(device_time(cudnn_sdpa(inputs, row["sequences"]), REPEATS))
    return result


def line(result: dict[str, Any]) -> str:
    """One line of the table."""
    cudnn = f"{result['cudnn_sdpa']['mean_us']:10.1f}" if "cudnn_sdpa" in result else f"{'-':>10}"
    return (
        f"{result['op']:20} {result['sequences']:5} x {result['length']:<6} {result['ours']['mean_us']:9.2f} "
        f"{result['ours']['p10_us']:9.2f} {result['ours']['p90_us']:9.2f} {result['vllm_us']:9.2f} "
        f"{result['ratio']:6.3f} {result['flops_s'] / 1e12:8.0f} {result['bytes_s'] / 1e12:6.2f} {cudnn}"
    )


@torch.inference_mode()
def main(path: Path) -> None:
    """Measure every row, print the table, write the file."""
    torch.manual_seed(0)
    print(
        f"{'operator':20} {'sequences x length':>14} {'us':>8} {'p10':>9} {'p90':>9} {'vLLM us':>9} {'ratio':>6} "
        f"{'TFLOP/s':>8} {'TB/s':>6} {'cuDNN us':>10}"
    )
    results = []
    for row in ANCHORS["rows"]:
        results.append(measure(row))
        print(line(results[-1]), flush=True)
        torch.cuda.empty_cache()
    source = {key: value for key, value in ANCHORS.items() if key != "rows"}
    path.write_text(json.dumps({"conditions": conditions(), "vllm": source, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
