"""Granite 3: https://github.com/ibm-granite/granite-3.0-language-models."""

import torch

from ..L3.granite_decoder_layer import GraniteDecoderLayer
from ._decoder import CausalLM, StreamModel


class GraniteModel(StreamModel):
    """Granite without its output projection."""

    layer = GraniteDecoderLayer

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings [T, H] of the ids, times embedding_multiplier."""
        return super().embed_input_ids(input_ids) * self.config.embedding_multiplier


class GraniteForCausalLM(CausalLM):
    """Granite: Llama with factors of the embeddings, of the scores, of what layers add, and of the logits."""

    model_class = GraniteModel

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocab_size] of hidden states [rows, H], divided by logits_scaling."""
        return super().compute_logits(hidden_states) / self.config.logits_scaling
