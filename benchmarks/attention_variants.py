#!/usr/bin/env python3
"""Device time of attention with windows, sinks and latent caches at the shapes of Gemma 3, gpt-oss and DeepSeek-V3.

Usage: PYTHONPATH=. python3 benchmarks/attention_variants.py RESULT.json [--only WORD]... [--sweep]     (CUDA)

Every row is checked against the native path in float32 first, if it is not too large. The bound is the slower of bytes
over a copy's bandwidth and operations over a matrix product's rate, both measured on the same device. --sweep also
times each decode row at other numbers of splits, for tuning.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from device_time import conditions, device_times  # beside this script, so on sys.path

from fastkernels.bench.timing.peaks import measure_peaks
from fastkernels.bench.timing.roofline import Peaks, roofline_s
from fastkernels.tasks.baseline.L1 import flash_attn_decode, mla_decode
from fastkernels.tasks.baseline.L1.flash_attn_decode import FlashAttnDecode
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill
from fastkernels.tasks.baseline.L1.gemma_rms_norm import GemmaRMSNorm
from fastkernels.tasks.baseline.L1.mla_decode import MLADecode
from fastkernels.tasks.baseline.L1.rotary_emb import RotaryEmbedding
from fastkernels.tasks.baseline.L1.store_mla_cache import StoreMLACache

BF16 = torch.bfloat16
REPEATS = 20
CHECKED_FLOPS = 2**33
"""Rows of more operations are checked at other sizes, by the operators' tests."""
BATCHES, CONTEXTS = (1, 8, 32, 128), (1024, 8192)
PROMPTS = ((1, 1024), (1, 8192), (8, 1024), (4, 8192))
"""(sequences, tokens of each)."""
TOKENS = (1, 32, 512, 4096)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
YARN = {
    "rope_type": "deepseek_yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096,
}  # fmt: skip


@dataclass(frozen=True)
class Heads:
    """The attention of one kind of layer."""

    model: str
    heads: int
    kv_heads: int
    size: int
    window: int | None = None
    sinks: bool = False

    @property
    def name(self) -> str:
        """What the table shows."""
        return f"{self.model} {'full' if self.window is None else f'window {self.window}'}"


LAYERS = (
    Heads("gemma3-27b", 32, 16, 128, 1024), Heads("gemma3-27b", 32, 16, 128), Heads("gemma3-12b", 16, 8, 256, 1024),
    Heads("gpt-oss", 64, 8, 64, 128, True), Heads("gpt-oss", 64, 8, 64, None, True),
    Heads("gpt-oss tp8", 8, 1, 64, 128, True), Heads("gpt-oss tp8", 8, 1, 64, None, True),
)  # fmt: skip
LATENT_HEADS = {"deepseek-v3": 128, "deepseek-v3 tp8": 16}


@dataclass
class Row:
    """One call."""

    op: str
    shape: str
    sequences: int
    length: int
    module: Any
    inputs: dict[str, Any]


def randn(*shape: int, device: str) -> torch.Tensor:
    """bf16 normal values."""
    return torch.randn(*shape, device=device, dtype=BF16)


def paged(batch: int, context: int, page: int, device: str) -> dict[str, Any]:
    """Contexts of equal length, their pages in random order."""
    pages = -(-context // page)
    table = torch.randperm(batch * pages, device=device).to(torch.int32).view(batch, pages)
    used = torch.full((batch,), context, device=device, dtype=torch.int32)
    return {"block_table": table, "seqused_k": used, "max_seqlen_k": context}


def decode_row(layer: Heads, batch: int, context: int, device: str = "cuda") -> Row:
    """One new token a sequence, pages of 16."""
    op = FlashAttnDecode(layer.heads, layer.size, layer.size**-0.5, layer.kv_heads, layer.window)
    inputs = paged(batch, context, 16, device)
    caches = {n: randn(batch * -(-context // 16), 16, layer.kv_heads, layer.size, device=device) for n in ("k", "v")}
    inputs |= {"query": randn(batch, layer.heads, layer.size, device=device), "key_cache": caches["k"]}
    inputs |= {"value_cache": caches["v"]} | ({"sinks": randn(layer.heads, device=device)} if layer.sinks else {})
    return Row("flash_attn_decode", layer.name, batch, context, op, inputs)


def latent_row(name: str, batch: int, context: int, device: str = "cuda") -> Row:
    """DeepSeek-V3's decoding, pages of 64."""
    heads = LATENT_HEADS[name]
    inputs = paged(batch, context, 64, device) | {"query": randn(batch, heads, 576, device=device)}
    inputs["kv_cache"] = randn(batch * -(-context // 64), 64, 576, device=device)
    return Row("mla_decode", name, batch, context, MLADecode(heads, 512, 64, 192**-0.5), inputs)


def prefill_row(layer: Heads, sequences: int, length: int, size_v: int = 0, device: str = "cuda") -> Row:
    """Prompts of equal length, packed."""
    op = FlashAttnPrefill(layer.heads, layer.size, layer.size**-0.5, layer.kv_heads, layer.window)
    tokens = sequences * length
    starts = torch.arange(0, tokens + 1, length, device=device, dtype=torch.int32)
    inputs: dict[str, Any] = {"cu_seqlens_q": starts, "cu_seqlens_k": starts}
    inputs |= {"max_seqlen_q": length, "max_seqlen_k": length}
    inputs["query"] = randn(tokens, layer.heads, layer.size, device=device)
    inputs["key"] = randn(tokens, layer.kv_heads, layer.size, device=device)
    inputs["value"] = randn(tokens, layer.kv_heads, size_v or layer.size, device=device)
    inputs |= {"sinks": randn(layer.heads, device=device)} if layer.sinks else {}
    return Row("flash_attn_prefill", layer.name, sequences, length, op, inputs)


def token_rows(tokens: int, device: str = "cuda") -> Iterator[Row]:
    """The operators that treat each token by itself."""
    norm = GemmaRMSNorm(5376, dtype=BF16).requires_grad_(False).to(device)
    x, residual = randn(tokens, 5376, device=device), randn(tokens, 5376, device=device)
    yield Row("gemma_rms_norm", "5376 residual", tokens, 1, norm, {"x": x, "residual": residual})
    rope = RotaryEmbedding(64, 64, 8192, 1e4, False, BF16, YARN).to(device)
    positions = torch.randint(8192, (tokens,), device=device)
    query, key = randn(tokens, 128, 192, device=device), randn(tokens, 1, 576, device=device)
    slices = {"query": query[..., 128:], "key": key[..., 512:]}
    yield Row("rotary_emb", "deepseek-v3 slices", tokens, 1, rope, {"positions": positions, **slices})
    pages = 64 + tokens // 64
    slots = torch.randperm(pages * 64, device=device)[:tokens]
    latent = {"kv_c": randn(tokens, 512, device=device), "k_pe": randn(tokens, 64, device=device)}
    latent |= {"kv_cache": randn(pages, 64, 576, device=device), "slot_mapping": slots}
    yield Row("store_mla_cache", "512 + 64", tokens, 1, StoreMLACache(), latent)


def makers() -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """(what --only looks at, makes the rows) for all rows, each made when its turn comes."""
    for layer in LAYERS:
        for batch in BATCHES:
            for context in CONTEXTS:
                yield f"flash_attn_decode {layer.name}", lambda a=(layer, batch, context): iter([decode_row(*a)])
    for name in LATENT_HEADS:
        for batch in BATCHES:
            for context in CONTEXTS:
                yield f"mla_decode {name}", lambda a=(name, batch, context): iter([latent_row(*a)])
    for layer in LAYERS:
        for prompt in PROMPTS:
            yield f"flash_attn_prefill {layer.name}", lambda a=(layer, *prompt): iter([prefill_row(*a)])
    for name, heads in LATENT_HEADS.items():
        for prompt in PROMPTS:
            layer = Heads(f"{name} 192/128", heads, heads, 192)
            yield f"flash_attn_prefill {layer.name}", lambda a=(layer, *prompt, 128): iter([prefill_row(*a)])
    for tokens in TOKENS:
        yield "gemma_rms_norm rotary_emb store_mla_cache", lambda tokens=tokens: token_rows(tokens)


def outputs_of(outputs: Any) -> tuple[torch.Tensor, ...]:
    """What a call returned, as a tuple."""
    return () if outputs is None else outputs if isinstance(outputs, tuple) else (outputs,)


def call(module: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """The outputs on copies of the inputs, or the cache where there are none."""
    copies = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    return outputs_of(module(**copies)) or (copies["kv_cache"],)


def relative_error(row: Row) -> float | None:
    """||got - native in float32|| / ||native||, the worst output."""
    got = call(row.module, row.inputs)
    if row.module.work(row.inputs, got).flops > CHECKED_FLOPS:
        return None
    wide = {k: v.float() if isinstance(v, torch.Tensor) and v.dtype == BF16 else v for k, v in row.inputs.items()}
    with mock.patch.object(type(row.module), "forward_cuda", type(row.module).forward_native):
        want = call(row.module, wide)
    error = max(((a.float() - b).norm() / b.norm()).item() for a, b in zip(got, want, strict=True))
    if not error < 1e-2:
        raise RuntimeError(f"{row.op} {row.shape} {row.sequences} x {row.length}: relative error {error}")
    return error


def swept(row: Row) -> Iterator[tuple[int, Callable[[], object]]]:
    """(splits, call) for a decode row."""
    module = {"flash_attn_decode": flash_attn_decode, "mla_decode": mla_decode}.get(row.op)
    most = -(-min(row.length, getattr(row.module, "sliding_window", None) or row.length) // 64)
    for splits in SPLITS:
        if module is not None and splits <= most:

            def fixed(splits: int = splits) -> object:
                with mock.patch.object(module, "split_count", return_value=splits):
                    return row.module(**row.inputs)

            yield splits, fixed


def measure(row: Row, peaks: Peaks, sweep: bool) -> dict[str, Any]:
    """Check and time one row."""
    error = relative_error(row)
    work = row.module.work(row.inputs, outputs_of(row.module(**row.inputs)))
    others = list(swept(row)) if sweep else []
    times = device_times([lambda: row.module(**row.inputs), *(run for _, run in others)], REPEATS)
    bound_us = roofline_s(work, "bfloat16", peaks) * 1e6
    return {
        "op": row.op, "shape": row.shape, "sequences": row.sequences, "length": row.length, "ours": asdict(times[0]),
        "bytes_s": work.bytes / times[0].mean_us * 1e6, "flops_s": work.flops / times[0].mean_us * 1e6,
        "bound_us": bound_us, "share": bound_us / times[0].mean_us, "relative_error": error,
        "splits_us": {splits: time.mean_us for (splits, _), time in zip(others, times[1:], strict=True)},
    }  # fmt: skip


def line(result: dict[str, Any]) -> str:
    """One line of the table."""
    splits = "  ".join(f"{splits}: {us:.1f}" for splits, us in result["splits_us"].items())
    return (
        f"{result['op']:18} {result['shape']:24} {result['sequences']:4} x {result['length']:<5} "
        f"{result['ours']['mean_us']:9.2f} {result['ours']['p10_us']:9.2f} {result['ours']['p90_us']:9.2f} "
        f"{result['bytes_s'] / 1e12:6.2f} {result['flops_s'] / 1e12:8.1f} {result['bound_us']:9.2f} "
        f"{result['share']:6.2f}{'   splits ' + splits if splits else ''}"
    )


def measured(make: Callable[[], Iterator[Row]], peaks: Peaks, sweep: bool) -> Iterator[dict[str, Any]]:
    """Results of these rows; one that fails is a result with its error, so that the others still run."""
    try:
        for row in make():
            yield measure(row, peaks, sweep)
    except RuntimeError as error:
        yield {"error": f"{type(error).__name__}: {error}"}


@torch.inference_mode()
def main(path: Path, only: list[str], sweep: bool) -> int:
    """Measure the rows, print the table, write the file; 1 if a row failed."""
    chosen = [(about, make) for about, make in makers() if all(word in about for word in only)]
    if not chosen:
        print(f"--only {' '.join(only)}: no row; there are {', '.join(dict.fromkeys(about for about, _ in makers()))}")
        return 1
    torch.manual_seed(0)
    peaks = measure_peaks(torch.device("cuda"))
    print(f"copy {peaks.bandwidth_bytes_s / 1e12:.2f} TB/s, bf16 product {peaks.matmul_flops_s('bfloat16') / 1e12:.0f} "
          "TFLOP/s")
    print(f"{'operator':18} {'shape':24} {'sequences':>7} x length {'us':>7} {'p10':>9} {'p90':>9} {'TB/s':>6} "
          f"{'TFLOP/s':>8} {'bound us':>9} {'share':>6}")
    results: list[dict[str, Any]] = []
    for about, make in chosen:
        for result in measured(make, peaks, sweep):
            results.append(result)
            print(f"{about}: {result['error']}" if "error" in result else line(result), flush=True)
        torch.cuda.empty_cache()
    document = {"conditions": conditions(), "peaks": peaks.to_dict(), "rows": results}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return int(any("error" in result for result in results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="JSON file to write")
    parser.add_argument("--only", action="append", default=[], help="word in operator or shape; several must all match")
    parser.add_argument("--sweep", action="store_true", help="decode rows at other numbers of splits too")
    given = parser.parse_args()
    raise SystemExit(main(given.result, given.only, given.sweep))
