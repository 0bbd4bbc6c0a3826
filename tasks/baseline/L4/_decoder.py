"""The body and the head that all decoder-only models share; a family names its layer and what it does otherwise."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import nn

from fastkernels.runtime.model_config import norm_eps, optional
from fastkernels.runtime.parallel import tp_group
from fastkernels.runtime.sharing import sharing
from fastkernels.runtime.weights import Stacked, load_weights

from ..L1.rms_norm import RMSNorm
from ..L2.parallel_lm_head import ParallelLMHead
from ..L2.vocab_parallel_embedding import VocabParallelEmbedding

QKV = Stacked("qkv_proj", {"q_proj": ("q",), "k_proj": ("k",), "v_proj": ("v",)})
GATE_UP = Stacked("gate_up_proj", {"gate_proj": (0,), "up_proj": (1,)})


class DecoderModel(nn.Module):
    """Embedding, decoder layers, last norm.

    input_ids: [T] int64 or None, positions: [T] int64, inputs_embeds: [T, H] in the place of embedded ids
    -> hidden states [T, H]. Reads the forward context.
    """

    layer: ClassVar[Callable[..., nn.Module]]
    """Builds a layer from (config, prefix=)."""
    last_norm: ClassVar[Callable[..., nn.Module]] = RMSNorm
    """Builds the last norm from (hidden_size, eps)."""

    def __init__(self, config: Any, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        cls = type(self)
        self.embed_tokens = VocabParallelEmbedding(
            config.vocab_size, config.hidden_size, prefix=f"{prefix}.embed_tokens"
        )
        self.layers = nn.ModuleList(
            cls.layer(config, prefix=f"{prefix}.layers.{index}") for index in range(config.num_hidden_layers)
        )
        self.norm = cls.last_norm(config.hidden_size, norm_eps(config))

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings [T, H] of the ids; a family that scales them overrides this."""
        return self.embed_tokens(input_ids)

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The parts in order."""
        if inputs_embeds is None:
            assert input_ids is not None, "either input_ids or inputs_embeds"
            inputs_embeds = self.embed_input_ids(input_ids)
        return self.run_layers(positions, inputs_embeds)

    def run_layers(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """Layers, which hand the residual on beside their output, and the last norm, which adds the two."""
        residual = None
        for layer in self.layers:
            # By name: the order differs between families, as in vLLM.
            hidden_states, residual = layer(positions=positions, hidden_states=hidden_states, residual=residual)
        hidden_states, _ = self.norm(hidden_states, residual)
        return hidden_states


class StreamModel(DecoderModel):
    """A decoder whose layers add to the residual stream themselves: (positions, hidden_states) -> hidden_states."""

    def run_layers(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """Layers and the last norm, one after the other."""
        for layer in self.layers:
            hidden_states = layer(positions, hidden_states)
        normed: torch.Tensor = self.norm(hidden_states)
        return normed


class CausalLM(nn.Module):
    """A decoder model and its output projection; `model.` and `lm_head.` in a checkpoint.

    forward: input_ids [T], positions [T] -> hidden states [T, H]; compute_logits: hidden states of the rows that are
    asked for -> logits [rows, vocab_size], the same on every rank.
    """

    model_class: ClassVar[Callable[..., nn.Module]]
    """Builds the body from (config, prefix=)."""
    tied: ClassVar[bool] = False
    """Whether embeddings are tied where the config does not say."""
    stacked: ClassVar[tuple[Stacked, ...]] = (QKV, GATE_UP)
    """Parameters that hold several tensors of the checkpoint."""

    def __init__(self, config: Any, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        self.tp_group = tp_group()
        self.logits_soft_cap: float | None = getattr(config, "final_logit_softcapping", None)
        dotted = f"{prefix}." if prefix else ""
        with sharing():
            self.model = type(self).model_class(config, prefix=f"{dotted}model")
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size, prefix=f"{dotted}lm_head")
        if self.is_tied():
            self.lm_head.tie_weights(self.model.embed_tokens)

    def is_tied(self) -> bool:
        """Whether the output projection uses the embedding's weight."""
        return bool(optional(self.config, "tie_word_embeddings", type(self).tied))

    def stacks(self) -> tuple[Stacked, ...]:
        """Parameters that hold several tensors; a family whose experts are counted by the config overrides this."""
        return type(self).stacked

    def checkpoint_name(self, name: str) -> str | None:
        """The model's name of a tensor of the checkpoint, None for one that it has no use for."""
        if name.endswith("rotary_emb.inv_freq") or (self.is_tied() and name == "lm_head.weight"):
            return None
        return name

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a checkpoint's tensors, this rank's share; returns the names of the parameters that were loaded.

        WeightsError where a tensor has the wrong shape, is surplus or missing.
        """
        return load_weights(self, weights, self.stacks(), self.checkpoint_name)

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Hidden states [T, H] after the last norm."""
        hidden_states: torch.Tensor = self.model(input_ids, positions, inputs_embeds)
        return hidden_states

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocab_size] of hidden states [rows, H]."""
        logits = self.lm_head(hidden_states)
        if self.tp_group.size > 1:
            logits = self.tp_group.all_gather(logits)
        logits = logits[..., : self.config.vocab_size]
        if self.logits_soft_cap is not None:
            logits = torch.tanh(logits / self.logits_soft_cap) * self.logits_soft_cap
        return logits
