"""Published configs, at full width: our models need exactly the tensors that transformers' have, of the same shapes."""

import json

import pytest
import torch

from fastkernels.engine.config import read_model_config
from fastkernels.engine.load import model_class
from fastkernels.manifest.loader import manifests_directory
from fastkernels.runtime.weights import targets

SAME = (
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM",
    "Gemma3ForConditionalGeneration", "GptOssForCausalLM", "Phi3ForCausalLM", "GraniteForCausalLM",
    "SmolLM3ForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "Gemma2ForCausalLM", "Starcoder2ForCausalLM",
)  # fmt: skip
"""transformers 5 holds the others' experts stacked, as checkpoints do not: their parity tests save and load."""
CONFIGS = {
    path.stem: data for path in sorted((manifests_directory() / "models").glob("*.json"))
    if (data := json.loads(path.read_text()))["architectures"][0] in SAME
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_tensors_are_transformers(name, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    data = two_layers(CONFIGS[name])
    (tmp_path / "config.json").write_text(json.dumps(data))
    config = read_model_config(tmp_path)
    with torch.device("meta"):
        ours = model_class(config.architectures, name)(config)
        theirs = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    needed = {tensor: target.shape() for tensor, target in targets(ours, ours.stacks()).items()}
    named = {ours.checkpoint_name(tensor): tuple(p.shape) for tensor, p in theirs.named_parameters()}
    named.pop(None, None)  # what reads images
    assert needed == named


def two_layers(data):
    """The config with fewer layers, below `text_config` where it has one."""
    if "text_config" in data:
        return {**data, "text_config": two_layers(data["text_config"])}
    types = {"layer_types": data["layer_types"][:2]} if "layer_types" in data else {}
    return {**data, "num_hidden_layers": 2, **types}
