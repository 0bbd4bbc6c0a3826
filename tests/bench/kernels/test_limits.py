"""What is left out, and that asking for it brings it back."""

from dataclasses import replace

import pytest
from blocks_by_hand import llama_mlp
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, left_out, limits, resolve_device
from fastkernels.bench.kernels.limits import call_flops, input_bytes, needed_bytes, weight_bytes
from fastkernels.errors import DeviceError
from fastkernels.manifest import InputSpec

CPU = GraderSettings(device="cpu")


def test_a_cpu_leaves_out_more_than_512_tokens_and_says_how_to_ask():
    assert left_out(rms_norm(tokens=512), CPU) is None
    found = left_out(rms_norm(tokens=513), CPU)
    assert found is not None
    assert found.id == "rms_norm[tiny-tp1-s513]"
    assert found.reason == "513 tokens on a CPU (over 512; ask with --fk-seqlen=513)"


def test_what_is_asked_for_by_token_count_is_graded():
    assert left_out(rms_norm(tokens=2048), GraderSettings(device="cpu", seqlens=(2048,))) is None


def test_what_does_not_fit_into_memory_is_left_out(monkeypatch):
    monkeypatch.setattr(limits, "memory_bytes", lambda device: 2**20)
    found = left_out(rms_norm(tokens=512, hidden=2**20), CPU)
    assert found is not None
    assert "needed, 0.0 GiB at hand on cpu (ask with --fk-seqlen=512)" in found.reason
    assert left_out(rms_norm(tokens=1), CPU) is None


def test_the_estimate_counts_inputs_and_weights():
    assert input_bytes(rms_norm(tokens=4, hidden=32, residual=True)) == 2 * 4 * 32 * 2
    linear = replace(rms_norm(), init={"input_size": 10, "output_size": 6, "dtype": "float32"})
    assert weight_bytes(linear) == 240
    assert needed_bytes(linear) > input_bytes(linear) + weight_bytes(linear)


def test_a_cpu_leaves_out_blocks_of_too_many_operations():
    block = replace(llama_mlp(tokens=500), parameters=2 * 10**9)
    assert call_flops(block) == 2 * 500 * 2 * 10**9
    found = left_out(block, CPU)
    assert found is not None
    assert found.reason == "about 2e+12 operations a call on a CPU (over 2e+11; ask with --fk-seqlen=500)"
    assert left_out(replace(block, tp=16), CPU) is None
    assert call_flops(replace(block, level=1)) == 0
    assert left_out(block, GraderSettings(device="cpu", seqlens=(500,))) is None


def test_a_cpu_leaves_out_blocks_of_too_many_weights_whatever_the_tokens():
    experts = replace(llama_mlp(tokens=1), parameters=4 * 10**8)
    found = left_out(experts, CPU)
    assert found is not None
    assert found.reason == "4e+08 weights on a CPU (over 3e+08; ask with --fk-seqlen=1)"
    assert left_out(replace(experts, tp=2), CPU) is None


def test_tokens_use_the_weights_of_the_chosen_experts_alone():
    config = {"n_routed_experts": 64, "num_experts_per_tok": 8}
    block = replace(llama_mlp(tokens=10), parameters=6400, init={"config": config, "dtype": "bfloat16"})
    assert call_flops(block) == 2 * 10 * 800
    assert call_flops(replace(block, init={"num_experts": 64, "top_k": 16})) == 2 * 10 * 1600


def test_a_lookup_has_no_operations():
    ids = InputSpec("input_ids", "token_ids", ("tokens",), "int64", {"vocab": 10})
    assert call_flops(replace(llama_mlp(), parameters=10**12, inputs=(ids,))) == 0


def test_the_weights_of_a_block_are_shared_out_to_its_ranks():
    block = replace(llama_mlp(), parameters=800)
    assert weight_bytes(block) == 1600
    assert weight_bytes(replace(block, tp=4)) == 400
    assert weight_bytes(replace(block, level=1, tp=4)) == 1600  # sizes of level 1 are one rank's already


def test_an_unknown_device_or_baseline_is_refused():
    with pytest.raises(ValueError, match="device: 'gpu' is not one of auto, cpu, cuda"):
        GraderSettings(device="gpu")
    with pytest.raises(ValueError, match=r"baseline: 'nativ' is not one of auto, native, vllm. Did you mean 'native'"):
        GraderSettings(baseline="nativ")


def test_auto_is_what_the_machine_has_and_cuda_is_refused_where_it_has_none(monkeypatch):
    monkeypatch.setattr("fastkernels.bench.kernels.settings.cuda_missing", lambda: "no CUDA device is found")
    assert resolve_device("auto") == "cpu"
    with pytest.raises(DeviceError, match="device cuda: no CUDA device is found"):
        resolve_device("cuda")
    monkeypatch.setattr("fastkernels.bench.kernels.settings.cuda_missing", lambda: None)
    assert resolve_device("auto") == "cuda"


def test_the_fingerprint_leaves_out_seed_and_limits_and_tells_settings_apart():
    assert GraderSettings(device="cpu", seed=1, timeout_s=5).fingerprint == CPU.fingerprint
    assert GraderSettings(device="cpu", timing=False).fingerprint != CPU.fingerprint
    assert GraderSettings(device="cpu", min_speedup=1.0).fingerprint != CPU.fingerprint
