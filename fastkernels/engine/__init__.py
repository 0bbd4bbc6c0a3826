"""Loads whole models and runs them over a paged KV cache."""

from fastkernels.engine.kv_cache import PagePool, allocate_kv_caches
from fastkernels.engine.load import load_model
from fastkernels.engine.runner import ModelRunner
from fastkernels.engine.sequence import Chunk, Sequence

__all__ = ["Chunk", "ModelRunner", "PagePool", "Sequence", "allocate_kv_caches", "load_model"]
