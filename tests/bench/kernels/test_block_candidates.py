"""Blocks and layers through both workers: self-tests, candidates of their own and of what they are made of."""

import textwrap

import pytest
from blocks_by_hand import llama_attention, llama_layer, llama_mlp, mixtral_moe

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.registry.operators import baseline_root
from fastkernels.results import Verdict

HERE = GraderSettings(device="cpu", seed=3, max_time_s=0.1, self_test=True)

ATTENTION = '''
from typing import Any

import torch
from torch import nn

from fastkernels.runtime.forward_context import get_forward_context

from ..L1.rotary_emb import RotaryEmbedding
from .parallel_linear import QKVParallelLinear, RowParallelLinear


class LlamaAttention(nn.Module):
    """Written anew: no Attention below it, a loop over sequences."""

    def __init__(self, config: Any, hidden_size, num_heads, num_kv_heads, max_position_embeddings=8192, bias=False,
                 bias_o_proj=False, prefix="", dtype=None):
        super().__init__()
        self.head = config.head_dim
        self.qkv_proj = QKVParallelLinear(hidden_size, self.head, num_heads, num_kv_heads, bias, dtype)
        self.o_proj = RowParallelLinear(num_heads * self.head, hidden_size, bias_o_proj, params_dtype=dtype)
        self.rotary_emb = RotaryEmbedding(self.head, self.head, max_position_embeddings, config.rope_theta, dtype=dtype)

    def forward(self, positions, hidden_states):
        layer, context = self.qkv_proj, get_forward_context()
        batch, (keys, values) = context.metadata, context.kv_cache("model.layers.0.self_attn.attn")
        sizes = [layer.num_heads * self.head, layer.num_kv_heads * self.head, layer.num_kv_heads * self.head]
        q, k, v = layer(hidden_states)[0].split(sizes, dim=-1)
        q, k = self.rotary_emb(POSITIONS, q, k)
        k, v = (x.reshape(len(x), -1, self.head) for x in (k, v))
        used = batch.slot_mapping >= 0
        slots = batch.slot_mapping[used]
        keys.view(-1, *keys.shape[2:])[slots] = k[used]
        VALUES
        out = torch.zeros_like(q).view(len(q), -1, self.head)
        for row in range(batch.num_decodes):
            length = int(batch.seqused_k[row])
            pages = batch.block_table[row].long()
            k, v = (cache[pages].flatten(0, 1)[:length].float() for cache in (keys, values))
            group = layer.num_heads // layer.num_kv_heads
            k, v = (x.HEADS.repeat_interleave(group, 1) for x in (k, v))
            scores = torch.einsum("hd,khd->hk", q.view(len(q), -1, self.head)[row].float(), k) * self.head**-0.5
            out[row] = torch.einsum("hk,khd->hd", scores.softmax(-1), v).to(out.dtype)
        return self.o_proj(out.flatten(1))[0]
'''
RIGHT = {"POSITIONS": "positions", "VALUES": "values.view(-1, *values.shape[2:])[slots] = v[used]", "HEADS": "clone()"}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def attention(**changes):
    text = ATTENTION
    for name, code in {**RIGHT, **changes}.items():
        text = text.replace(name, code)
    return {"L2/llama_attention.py": text}



def graded(folder, scenario, timing=False):
    settings = GraderSettings(**{**HERE.__dict__, "self_test": False, "candidates_dir": folder, "timing": timing})
    with KernelGrader(settings) as grader:
        return grader.grade(scenario)


@pytest.fixture(scope="module")
def grader():
    with KernelGrader(HERE) as grader:
        yield grader


@pytest.mark.parametrize("scenario", [
    llama_attention("decode"), llama_attention("prefill"), llama_attention("chunked"), llama_attention("mixed"),
    llama_attention("decode", tp=2), llama_attention("decode", dtype="float32"), llama_mlp(tp=2), llama_layer("decode"),
    llama_layer("mixed"), mixtral_moe(),
], ids=lambda s: f"{s.op}-{s.phase}-{s.tp}-{len(s.inputs)}-{s.inputs[-1].dtype}")  # fmt: skip
def test_a_self_test_passes(grader, scenario, clocks_agree):
    result = grader.grade(scenario)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.baseline_provider == "native"
    assert result.timing is not None
    assert result.correctness is not None
    assert 0 < result.correctness.max_error_ratio < 0.8


MLP = """
    from torch import nn

    from ..L1.silu_and_mul import SiluAndMul
    from .parallel_linear import MergedColumnParallelLinear, RowParallelLinear


    class LlamaMLP(nn.Module):
        def __init__(self, hidden_size, intermediate_size, hidden_act="silu", bias=False, prefix="",
                     reduce_results=True, dtype=None):
            super().__init__()
            self.gate_up_proj = MergedColumnParallelLinear(hidden_size, [intermediate_size] * 2, bias,
                                                           params_dtype=dtype)
            self.down_proj = RowParallelLinear(intermediate_size, hidden_size, bias, params_dtype=dtype,
                                               reduce_results=SUMS > 0)
            self.act_fn = SiluAndMul()

        def forward(self, x):
            y = self.down_proj(self.act_fn(self.gate_up_proj(x)[0]))[0]
            return self.down_proj.all_reduce(y) if SUMS > 1 else y
"""


@pytest.mark.parametrize(("sums", "verdicts"), [
    (0, {Verdict.WRONG_VALUES, Verdict.WRONG_SCALE}), (1, {Verdict.PASSED}),
    (2, {Verdict.WRONG_VALUES, Verdict.WRONG_SCALE}),
])  # fmt: skip
def test_a_sum_over_ranks_is_made_once(tmp_path, sums, verdicts):
    folder = write(tmp_path, {"L2/llama_mlp.py": MLP.replace("SUMS", str(sums))})
    result = graded(folder, llama_mlp(tp=2))
    assert result.verdict in verdicts, result.message


def test_ranks_hold_their_share_alone(grader, clocks_agree):
    one, two = (grader.grade(llama_mlp(tp=tp)).timing for tp in (1, 2))
    assert one is not None
    assert two is not None
    assert one.flops == pytest.approx(2 * two.flops, rel=0.01)
    weights = 3 * 64 * 96 * 2
    assert one.bytes - two.bytes == weights // 2


def test_a_block_moves_what_its_operators_cannot_keep_to_themselves(grader, clocks_agree):
    timing = grader.grade(llama_mlp(tokens=4)).timing
    assert timing is not None
    assert timing.bytes == 3 * 64 * 96 * 2 + 2 * 4 * 64 * 2  # weights, x and y once; gate, up and their product never
    assert timing.flops >= 2 * 4 * 3 * 64 * 96


def test_an_attention_block_written_anew_passes(tmp_path):
    result = graded(write(tmp_path, attention()), llama_attention("decode"), timing=True)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.replaced == ("L2.llama_attention",)


@pytest.mark.parametrize(("changes", "verdict", "words"), [
    ({"HEADS": "flip(1)"}, Verdict.WRONG_VALUES, "output (element "),
    ({"VALUES": "pass"}, Verdict.MISSED_WRITE, "input context.value_cache (element "),
    ({"POSITIONS": "positions * 0"}, Verdict.MISSED_WRITE, "input context.key_cache (element "),
    ({"VALUES": "values.view(-1, *values.shape[2:])[slots - 1] = v[used]"}, Verdict.MUTATED_INPUT,
     "input context.value_cache (row "),
    ({"VALUES": "values.view(-1, *values.shape[2:])[slots] = v[used]; batch.seqused_k.add_(0 * slots.numel() + 1)"},
     Verdict.MUTATED_INPUT, "input context.seqused_k was changed"),
    ({"VALUES": "context.kv_cache('no.layer'); get_forward_context().layers"}, Verdict.FORWARD_ERROR,
     "'ForwardContext' object has no attribute 'layers'"),
], ids=["heads", "no write", "positions", "wrong slot", "lengths", "error"])  # fmt: skip
def test_a_wrong_attention_block_fails(tmp_path, changes, verdict, words):
    result = graded(write(tmp_path, attention(**changes)), llama_attention("decode"))
    assert result.verdict is verdict, (result.message, result.evidence)
    assert words in result.message
    assert "runtime/invoke.py" not in result.evidence


NORM = '''
import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size: int, eps: float = 1e-6, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        total = x.float() if residual is None else x.float() + residual.float()
        y = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return y.to(x.dtype) if residual is None else (y.to(x.dtype), RESIDUAL)
'''


def test_a_replaced_norm_is_graded_in_the_layers_that_use_it(tmp_path):
    right = write(tmp_path / "right", {"L1/rms_norm.py": NORM.replace("RESIDUAL", "total.to(x.dtype)")})
    result = graded(right, llama_layer("decode"))
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    assert result.replaced == ("L1.rms_norm",)
    wrong = write(tmp_path / "wrong", {"L1/rms_norm.py": NORM.replace("RESIDUAL", "residual")})
    result = graded(wrong, llama_layer("decode"))
    assert result.verdict is Verdict.WRONG_VALUES
    assert "output[1]" in result.message or "output[0]" in result.message
    assert graded(wrong, llama_mlp()).replaced == ()


def test_one_class_of_a_file_of_several_needs_the_others(tmp_path):
    only = "from torch import nn\n\n\nclass RowParallelLinear(nn.Module):\n    pass\n"
    result = graded(write(tmp_path, {"L2/parallel_linear.py": only}), llama_mlp())
    assert result.verdict is Verdict.MISSING_CLASS
    assert "class ReplicatedLinear is missing; found RowParallelLinear" in result.message
    assert result.evidence.startswith(
        "a candidate of this file has all of ReplicatedLinear, ColumnParallelLinear, MergedColumnParallelLinear, "
        "QKVParallelLinear, RowParallelLinear; copy those that stay as they are from ")
    assert result.evidence.endswith("tasks/baseline/L2/parallel_linear.py")


def test_one_class_of_several_is_replaced_beside_copies_of_the_others(tmp_path):
    text = (baseline_root() / "L2" / "parallel_linear.py").read_text()
    head, _, row = text.partition("class RowParallelLinear")
    line = "        y = super().forward(x)\n"
    assert row.count(line) == 1
    for factor, verdict in ((1.0, Verdict.PASSED), (1.05, Verdict.WRONG_VALUES)):
        times = f"        y = {factor} * super().forward(x)\n"
        changed = f"{head}class RowParallelLinear{row.replace(line, times)}"
        result = graded(write(tmp_path / str(factor), {"L2/parallel_linear.py": changed}), llama_mlp())
        assert result.verdict is verdict, (result.message, result.evidence)
        assert result.replaced == ("L2.parallel_linear",)
