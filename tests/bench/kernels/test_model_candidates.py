"""Whole models through both workers: a candidate of their own, one of what they are made of, times, and a stub."""

import pytest
from models_by_hand import manifest_text, model
from suite import exhaustive

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.manifest import load_manifest
from fastkernels.registry import Candidates, ImportGraph, baseline_root
from fastkernels.registry.stubs import make_stubs, write_stubs
from fastkernels.results import Verdict

MODEL = '''
from ..L1.rms_norm import RMSNorm
from ..L3.llama_decoder_layer import LlamaDecoderLayer
from ._decoder import CausalLM, DecoderModel


class LlamaModel(DecoderModel):
    layer = LlamaDecoderLayer

    def forward(self, input_ids, positions, inputs_embeds=None):
        hidden_states, residual = self.embed_tokens(input_ids), None
        for layer in self.layers[:LAYERS]:
            hidden_states, residual = layer(positions=positions, hidden_states=hidden_states, residual=residual)
        return self.norm(hidden_states, residual)[0]


class LlamaForCausalLM(CausalLM):
    model_class = LlamaModel

    def compute_logits(self, hidden_states):
        return super().compute_logits(ROWS)
'''
NORM = '''
import torch

from fastkernels.runtime.op import Op


class RMSNorm(Op):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        total = x.float() if residual is None else x.float() + residual.float()
        scale = torch.rsqrt(total.square().mean(-1, keepdim=True) + self.eps)
        y = (total * scale * SCALE).to(x.dtype) * self.weight
        return y if residual is None else (y, total.to(x.dtype))
'''
WRONG = {Verdict.WRONG_VALUES, Verdict.WRONG_SCALE}


def graded(folder, scenario, path, text, timing=False):
    file = folder / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    settings = GraderSettings(device="cpu", seed=3, max_time_s=0.1, candidates_dir=folder, timing=timing)
    with KernelGrader(settings) as grader:
        return grader.grade(scenario)


@pytest.mark.parametrize("timing", [False, *exhaustive(True)])
def test_a_model_of_ones_own_is_graded_and_timed(tmp_path, clocks_agree, timing):
    text = MODEL.replace("LAYERS", "").replace("ROWS", "hidden_states")
    result = graded(tmp_path, model("llama"), "L4/llama.py", text, timing)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.replaced == ("L4.llama",)
    assert (result.timing is not None) == timing
    assert result.sweep.startswith("none: ")


@pytest.mark.parametrize(("layers", "rows"), [("1", "hidden_states"), ("", "hidden_states.flip(0)")])
def test_a_wrong_one_is_refused(tmp_path, layers, rows):
    text = MODEL.replace("LAYERS", layers).replace("ROWS", rows)
    result = graded(tmp_path, model("llama", tp=2), "L4/llama.py", text)
    assert result.verdict in WRONG | {Verdict.MISSED_WRITE}, result.message


@pytest.mark.parametrize(("scale", "verdicts"), [("1", {Verdict.PASSED}), ("1.05", WRONG | {Verdict.MISSED_WRITE})])
def test_a_kernel_reaches_the_models_that_use_it(tmp_path, scale, verdicts):
    result = graded(tmp_path, model("llama"), "L1/rms_norm.py", NORM.replace("SCALE", scale))
    assert result.verdict in verdicts, result.message
    assert result.replaced == ("L1.rms_norm",)


def test_the_import_graph_leads_from_a_kernel_to_every_model(tmp_path):
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text(NORM.replace("SCALE", "1"))
    graph = ImportGraph.of(baseline_root(), Candidates.load(tmp_path))
    models = {module for module in graph.users("L1.rms_norm") if module.startswith("L4.")}
    assert models == {module for module in graph.operators if module.startswith("L4.")}


def test_a_stub_is_made_for_a_model_and_says_that_it_is_one(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(manifest_text("llama"))
    stubs = make_stubs(load_manifest(file), "tiny-llama", levels=(4,))
    assert [stub.path.as_posix() for stub in stubs] == ["L4/llama.py"]
    assert "logits_indices are the" in stubs[0].text
    text = write_stubs(stubs, tmp_path / "stubs")[0].read_text()
    result = graded(tmp_path / "candidates", model("llama"), "L4/llama.py", text)
    assert result.verdict is Verdict.FORWARD_ERROR
    assert "still a stub" in result.message
