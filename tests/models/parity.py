"""What every family is held to: transformers' logits and greedy tokens on a tiny random model.

A family's test file is a class derived from `Parity` that names its configs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from ranks import Ranks
from torch import nn

from fastkernels.bench.grade.weights import randomise_weights
from fastkernels.engine import Chunk, ModelRunner, Sequence, load_model
from fastkernels.engine.load import model_class

TOLERANCE = 1e-4
STEPS = 32
"""Tokens that are decoded after each prompt."""
LENGTHS = (7, 1, 40, 19)
"""Tokens of the prompts; a page holds 16."""
CORRECTION = 0.2
"""Deviation of a correction bias: enough to change the choice of experts, whose scores lie between 0 and 1."""
TINY: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": None,
}  # fmt: skip
"""A config's sizes, unless a test names others: 99 entries are padded to 128, two ranks have unequal shares of them."""


@dataclass(frozen=True)
class Tiny:
    """A model of transformers' own class with random weights, and where it is saved."""

    reference: nn.Module
    directory: Path
    prompts: list[list[int]]


def make_tiny(config: dict[str, Any], directory: Path) -> Tiny:
    """Build the model of this config (`model_type` and what differs from TINY) and save it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, rest = config["model_type"], {name: value for name, value in config.items() if name != "model_type"}
    built = AutoConfig.for_model(kind, **{**TINY, **rest})
    reference = AutoModelForCausalLM.from_config(built, attn_implementation="eager", dtype=torch.float32)
    return save_tiny(reference, directory)


def save_tiny(reference: nn.Module, directory: Path) -> Tiny:
    """Fill a model of transformers' with random weights and save it."""
    randomise(reference.eval())
    reference.save_pretrained(directory)
    generator, vocab_size = torch.Generator().manual_seed(0), reference.config.get_text_config().vocab_size
    prompts = [torch.randint(vocab_size, (length,), generator=generator).tolist() for length in LENGTHS]
    return Tiny(reference, directory, prompts)


def randomise(reference: nn.Module) -> None:
    """Random weights, and random values for the correction bias of a router, which transformers holds as a buffer."""
    randomise_weights(reference, seed=0)
    for index, (name, buffer) in enumerate(reference.named_buffers()):
        if name.endswith("correction_bias"):
            buffer.normal_(generator=torch.Generator().manual_seed(index)).mul_(CORRECTION)


@dataclass(frozen=True)
class Generated:
    """Every sequence's tokens that went through the model, and the logits of each: [tokens, vocab]."""

    tokens: list[list[int]]
    logits: list[torch.Tensor]


def generate(
    model: nn.Module, prompts: list[list[int]], steps: int = STEPS, chunk: int = 10**6, stagger: int = 0
) -> Generated:
    """Prefill, then decode greedily. Sequence i joins after i * stagger passes; prompts go in chunks of `chunk`."""
    runner = ModelRunner(model, pages=64)
    sequences = [Sequence(list(prompt)) for prompt in prompts]
    totals = [len(prompt) + steps for prompt in prompts]
    rows: list[list[torch.Tensor]] = [[] for _ in prompts]
    turn = 0
    while any(sequence.computed < total for sequence, total in zip(sequences, totals, strict=True)):
        active = [i for i, sequence in enumerate(sequences) if turn >= i * stagger and sequence.computed < totals[i]]
        chunks = [Chunk(sequences[i], min(chunk, sequences[i].pending)) for i in active]
        for i, logits in zip(active, runner.run(chunks, all_rows=True), strict=True):
            rows[i].append(logits)
            if not sequences[i].pending and len(sequences[i].tokens) < totals[i]:
                sequences[i].tokens.append(int(logits[-1].argmax()))
        turn += 1
    return Generated([sequence.tokens for sequence in sequences], [torch.cat(parts).cpu() for parts in rows])


def generate_from(directory: Path, prompts: list[list[int]], device: str = "cpu", **options: Any) -> Generated:
    """`generate` with the model of a directory; what a tensor parallel rank runs."""
    return generate(load_model(directory, device, torch.float32), prompts, **options)


def check(generated: Generated, tiny: Tiny, prompts: list[list[int]]) -> None:
    """Assert that logits and greedy tokens are those of transformers for the same tokens."""
    for tokens, logits, prompt in zip(generated.tokens, generated.logits, prompts, strict=True):
        with torch.inference_mode():
            expected = tiny.reference(torch.tensor([tokens])).logits[0]
        assert logits.shape == expected.shape
        assert expected.std() > 0.1, "a model whose logits hardly differ shows nothing"
        difference = (logits - expected).abs().max().item()
        assert difference < TOLERANCE, f"prompt of {len(prompt)} tokens: logits differ by {difference}"
        first = len(prompt) - 1
        assert tokens[len(prompt) :] == expected[first:-1].argmax(-1).tolist()


class Parity:
    """The tests of a family; every config is one model."""

    configs: ClassVar[dict[str, dict[str, Any]]]
    """Configs by a short name: `model_type` and what differs from TINY."""
    swaps: ClassVar[tuple[tuple[str, str], ...]] = (("k_proj", "v_proj"), ("gate_proj", "up_proj"))
    """Pairs of tensors that a broken mapping takes for each other."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """One set of tests for each config, one broken mapping for each pair."""
        if "tiny" in metafunc.fixturenames:
            metafunc.parametrize("tiny", cls.configs, indirect=True)
        if "swap" in metafunc.fixturenames:
            metafunc.parametrize("swap", cls.swaps, ids="-".join)

    def test_a_prompt_alone(self, tiny: Tiny) -> None:
        prompts = tiny.prompts[2:3]
        check(generate_from(tiny.directory, prompts), tiny, prompts)

    def test_a_batch_of_unequal_lengths(self, tiny: Tiny) -> None:
        check(generate_from(tiny.directory, tiny.prompts), tiny, tiny.prompts)

    def test_decoding_beside_chunks_of_prompts(self, tiny: Tiny) -> None:
        check(generate_from(tiny.directory, tiny.prompts, chunk=9, stagger=2), tiny, tiny.prompts)

    def test_two_tensor_parallel_ranks(self, tiny: Tiny, ranks: Ranks) -> None:
        for generated in ranks.call(generate_from, tiny.directory, tiny.prompts, chunk=9, stagger=2):
            check(generated, tiny, tiny.prompts)

    def test_a_broken_mapping_is_seen(
        self, tiny: Tiny, swap: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        cls = model_class([type(tiny.reference).__name__], "")
        intact, (one, other) = cls.checkpoint_name, swap

        def broken(self: nn.Module, name: str) -> str | None:
            name = name.replace(one, "*").replace(other, one).replace("*", other)
            return intact(self, name)

        monkeypatch.setattr(cls, "checkpoint_name", broken)
        with pytest.raises(AssertionError, match="logits differ"):
            check(generate_from(tiny.directory, tiny.prompts, steps=0), tiny, tiny.prompts)
