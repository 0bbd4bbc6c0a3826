"""A small valid manifest that tests break in one place each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fastkernels.manifest import Manifest, load_manifest

SMALL = """\
schema_version: 1
category: llm
models:
  llama31-8b: {id: meta-llama/Llama-3.1-8B-Instruct, tp: [1, 2, 4, 8]}
  qwen3-8b: {id: Qwen/Qwen3-8B, tp: [1, 2]}
operators:
  rms_norm:
    level: 1
    class: RMSNorm
    scenarios:
    - uses: [llama31-8b-tp1, qwen3-8b-tp2]
      tokens: [1, 512]
      init: {hidden_size: 4096, eps: 1.0e-05, dtype: bfloat16}
      inputs:
        x: {shape: [tokens, 4096], dtype: bfloat16, values: normal}
    - uses: [llama31-8b-tp1]
      tokens: [512]
      variant: residual
      init: {hidden_size: 4096, eps: 1.0e-05, dtype: bfloat16}
      inputs:
        x: {shape: [tokens, 4096], dtype: bfloat16, values: normal}
        residual: {shape: [tokens, 4096], dtype: bfloat16, values: same_as, args: {of: x}}
  store:
    level: 2
    module: store_kvcache
    class: StoreKVCache
    scenarios:
    - uses: [qwen3-8b-tp1]
      tokens: [8, 2048]
      phase: prefill
      init: {}
      inputs:
        key_cache: {shape: [4*tokens+8, 16], dtype: float16, values: normal, args: {std: 0.5}}
        slot_mapping: {shape: [tokens], dtype: int64, values: slot_mapping, args: {slots: 64*tokens+128}}
        cu_seqlens: {shape: [9], dtype: int32, values: cu_seqlens, args: {total: tokens, sequences: 8}}
        max_seqlen: {values: literal, args: {value: tokens}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the small manifest, `old` replaced by `new`, as m.yaml in the working directory."""
    monkeypatch.chdir(tmp_path)

    def write_manifest(old: str = "", new: str = "") -> Path:
        assert old in SMALL
        path = tmp_path / "m.yaml"
        path.write_text(SMALL.replace(old, new, 1) if old else SMALL)
        return path

    return write_manifest


@pytest.fixture(scope="session")
def shipped() -> Manifest:
    """The shipped manifest, loaded once."""
    return load_manifest()
