"""Runs a model over batches of sequences, whose keys and values it keeps in a paged cache."""

from collections.abc import Sequence as Many

import torch
from torch import nn

from fastkernels.engine.batch import lay_out
from fastkernels.engine.kv_cache import PAGE_SIZE, PagePool, allocate_kv_caches
from fastkernels.engine.sequence import Chunk
from fastkernels.runtime.forward_context import ForwardContext, set_forward_context


class ModelRunner:
    """One rank's model, its caches and the pages in use."""

    def __init__(self, model: nn.Module, pages: int, page_size: int = PAGE_SIZE) -> None:
        first = next(model.parameters())
        self.model = model
        self.device = first.device
        self.pool = PagePool(pages, page_size)
        self.kv_caches = allocate_kv_caches(model, pages, page_size, first.dtype, first.device)

    @torch.inference_mode()
    def run(self, chunks: Many[Chunk], all_rows: bool = False) -> list[torch.Tensor]:
        """Compute the chunks in one forward pass and count their tokens as computed.

        Returns each chunk's logits, [1, vocab] of its last token, or [count, vocab] with all_rows.
        """
        for chunk in chunks:
            self.pool.grow(chunk.sequence, chunk.end)
        batch = lay_out(chunks, self.pool.page_size, self.device)
        with set_forward_context(ForwardContext(batch.metadata, self.kv_caches)):
            hidden_states = self.model(batch.input_ids, batch.positions)
        wanted = [list(rows) if all_rows else [rows[-1]] for rows in batch.rows]
        picked = torch.tensor([row for rows in wanted for row in rows], device=self.device)
        logits: torch.Tensor = self.model.compute_logits(hidden_states[picked])  # type: ignore[operator]
        for chunk in chunks:
            chunk.sequence.computed = chunk.end
        return list(torch.split(logits, [len(rows) for rows in wanted]))
