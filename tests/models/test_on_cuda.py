"""Models on a GPU: beside transformers and beside their own native paths, in CUDA graphs and under torch.compile."""

import copy
import json

import pytest
import torch
from models import test_deepseek_v2_parity, test_deepseek_v3_parity, test_gemma3_parity, test_gpt_oss_parity
from models.parity import Tiny, check, generate_from, make_tiny

from fastkernels.bench.grade.oracle import full_precision, native
from fastkernels.engine import Chunk, ModelRunner, Sequence, load_model
from fastkernels.engine.batch import Batch, lay_out
from fastkernels.manifest.loader import manifests_directory
from fastkernels.runtime.forward_context import ForwardContext, set_forward_context

pytestmark = pytest.mark.gpu

MODELS = (
    "llama31-8b", "mistral-7b-v03", "qwen25-7b", "qwen3-8b", "gemma3-4b", "deepseek-v2-lite", "deepseek-v3",
)  # fmt: skip
"""By name of their configs; two layers of each, DeepSeek-V3's without experts."""
ALL_EXPERTS = ("gpt-oss-20b",)
"""Experts in each of the two layers: rounding can choose another one, so that bfloat16 is no close neighbour."""
LENGTHS = (700, 33, 1, 129)
SAME = 5e-3
"""Relative error of two runs in bf16 whose products may be cut up differently."""
TINY = {
    "llama": {"model_type": "llama", "head_dim": 64},
    "mistral-window": {"model_type": "mistral", "head_dim": 64, "sliding_window": 12},
    "qwen3": {"model_type": "qwen3", "head_dim": 64},
    "gemma3-window": test_gemma3_parity.GEMMA | {"head_dim": 64},
    "gpt-oss-window": test_gpt_oss_parity.OSS | {"head_dim": 64},
    "deepseek-v2": test_deepseek_v2_parity.TestDeepseekV2.configs["yarn"],
    "deepseek-v3": test_deepseek_v3_parity.TestDeepseekV3.configs["yarn"],
}  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_float32_on_the_gpu_is_transformers(name, tmp_path):
    tiny: Tiny = make_tiny(TINY[name], tmp_path)
    with full_precision():
        generated = generate_from(tiny.directory, tiny.prompts, device="cuda", chunk=9, stagger=2)
    check(generated, tiny, tiny.prompts)


def shallow(name, folder):
    """A model of real width with two layers and random weights, in bfloat16."""
    config = json.loads((manifests_directory() / "models" / f"{name}.json").read_text())
    change = {"num_hidden_layers": 2}
    if "text_config" in config:
        change = {"text_config": {**config["text_config"], **change, "sliding_window_pattern": 2}}
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    return load_model(folder, "cuda", torch.bfloat16, "dummy")


def relative_error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def prompts(model):
    vocab = model.config.vocab_size
    return [torch.randint(vocab, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in LENGTHS]


def run_all(model):
    """Logits of every prompt's last token, then of a mixed batch: three sequences decode, one goes on in chunks."""
    runner = ModelRunner(model, pages=128)
    sequences = [Sequence(tokens) for tokens in prompts(model)]
    first = runner.run([Chunk(s, min(s.pending, 400)) for s in sequences])
    for sequence in sequences[1:]:
        sequence.tokens.append(7)
    return torch.cat([*first, *runner.run([Chunk(s, s.pending) for s in sequences])])


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_near_the_native_path_in_float32(name, tmp_path):
    """bf16 activations round to 2^-9; two layers and a projection leave a per cent or so."""
    model = shallow(name, tmp_path)
    with full_precision():
        expected = run_all(native(copy.deepcopy(model)).float())
    error = relative_error(run_all(model), expected)
    assert 1e-4 < error < 3e-2


class DecodePass:
    """A batch that decodes, its sequences prefilled, whose inputs can be copied into the same memory."""

    def __init__(self, model):
        self.runner = ModelRunner(model, pages=256)
        self.sequences = [Sequence(tokens) for tokens in prompts(model)]
        self.runner.run([Chunk(s, s.pending) for s in self.sequences])
        self.batch = self.next_batch(5)

    def next_batch(self, token) -> Batch:
        """The batch that decodes this token in every sequence."""
        for sequence in self.sequences:
            sequence.tokens[sequence.computed :] = [token]
            self.runner.pool.grow(sequence, sequence.computed + 1)
        return lay_out([Chunk(s, 1) for s in self.sequences], self.runner.pool.page_size, self.runner.device)

    def load(self, batch):
        """Copy another batch's ids and the rest into this one's memory, as an engine does before a replay."""
        self.batch.input_ids.copy_(batch.input_ids)
        self.batch.positions.copy_(batch.positions)
        for name in ("slot_mapping", "block_table", "seqused_k"):
            getattr(self.batch.metadata, name).copy_(getattr(batch.metadata, name))

    def __call__(self, model):
        with torch.inference_mode(), set_forward_context(
            ForwardContext(self.batch.metadata, self.runner.kv_caches)
        ):
            return model.compute_logits(model(self.batch.input_ids, self.batch.positions))


@pytest.mark.parametrize("name", [*MODELS, *ALL_EXPERTS])
def test_a_decode_pass_in_a_cuda_graph_follows_its_inputs(name, tmp_path):
    model = shallow(name, tmp_path)
    decode = DecodePass(model)
    first = decode(model).clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        decode(model)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = decode(model)
    graph.replay()
    assert relative_error(captured, first) < SAME
    decode.load(decode.next_batch(11))
    graph.replay()
    replayed = captured.clone()
    assert relative_error(replayed, decode(model)) < SAME
    assert relative_error(replayed, first) > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_a_decode_pass_under_torch_compile(name, tmp_path):
    model = shallow(name, tmp_path)
    decode = DecodePass(model)
    expected = decode(model)
    torch.compiler.reset()
    body = torch.compile(model.model, fullgraph=True)
    with torch.inference_mode(), set_forward_context(
        ForwardContext(decode.batch.metadata, decode.runner.kv_caches)
    ):
        hidden = body(decode.batch.input_ids, decode.batch.positions)
        assert relative_error(model.compute_logits(hidden), expected) < 2e-2
