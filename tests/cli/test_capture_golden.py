"""`fastkernels capture-golden`: what it says, and what it refuses."""

import shutil
from pathlib import Path

import pytest

from fastkernels.cli.main import USAGE_ERROR, main
from fastkernels.manifest.loader import manifests_directory

CONFIG = '''{
 "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 99, "hidden_size": 64,
 "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
 "torch_dtype": "float32"
}'''


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that capture a tiny model without weights in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small-llama").mkdir()
    (tmp_path / "small-llama/config.json").write_text(CONFIG)
    return ["capture-golden", "--model", "small-llama", "--load-format", "dummy", "--device", "cpu"]


def test_what_it_prints(model, capsys):
    assert main([*model, "--num-requests", "2"]) == 0
    told, progress = capsys.readouterr()
    lines = told.splitlines()
    assert "rotary_emb                  3 records  positions" in lines
    assert "vocab_parallel_embedding    3 records  input_ids" in lines
    layers = next(line for line in lines if line.startswith("llama_decoder_layer "))
    assert layers.split()[1:3] == ["6", "records"], "the first layer's, which have no residual, and another's"
    assert not any("llama_decoder_layer: no entry" in line for line in lines)
    assert any(line.startswith("golden/small-llama-tp1: ") and line.endswith(" of 3 passes, 0.0 MiB") for line in lines)
    assert lines[-1] == "Grade on them: pytest --fk-level=1 --fk-manifest=golden/small-llama-tp1/golden.yaml"
    assert progress.startswith("capture-golden: loading the model")
    assert sorted(path.name for path in Path("golden/small-llama-tp1").iterdir()) == [
        "decode0.safetensors", "decode1.safetensors", "golden.json", "golden.yaml", "prefill0.safetensors"]


def test_a_shipped_config_by_its_short_name(model, tmp_path, capsys, monkeypatch):
    shutil.copytree(manifests_directory(), tmp_path / "shipped")
    (tmp_path / "shipped/models/small-llama-9m.json").write_text(CONFIG)
    monkeypatch.setattr("fastkernels.cli.capture_golden.manifests_directory", lambda: tmp_path / "shipped")
    words = ["capture-golden", "--device", "cpu", "--op", "rotary_emb", "--model"]
    assert main([*words, "small-llama-9m", "--load-format", "dummy"]) == 0
    assert "golden/small-llama-9m-tp1: 3 records" in capsys.readouterr().out
    assert main([*words, "small-lama-9m"]) == USAGE_ERROR
    assert "Did you mean 'small-llama-9m'?" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "message"), [
    (["--op", "rotary"], "--op: operators with structured inputs: 'rotary' is not one of rotary_emb, embedding, "),
    (["--op", "rotary"], "Did you mean 'rotary_emb'?"),
    (["--op", "rms_norm"], "--op: operators with structured inputs: 'rms_norm' is not one of rotary_emb, "),
    (["--op", "llama_for_causal_lm"], "'llama_for_causal_lm' is not one of rotary_emb, "),
    (["--tp", "3"], "--tp: small-llama: TP 3: does not divide 4 heads, 2 KV heads"),
    (["--tp", "0"], "'0' is not a whole number of at least 1"),
    (["--num-requests", "few"], "'few' is not a whole number of at least 1"),
    (["--load-format", "dumy"], "invalid choice: 'dumy'"),
    (["--load-format", "auto"], "small-llama: no safetensors files"),
    (["--output", "full"], "--output: full is not empty; name a new directory, or remove it"),
    (["--output", "small-llama/config.json"], "--output: small-llama/config.json is not empty"),
    (["--model", "nowhere"], "--model nowhere: no such directory, no shipped model and no Hugging Face id"),
    (["--model", "llama31-8"], "Did you mean 'llama31-8b'?"),
])
def test_what_it_refuses(model, capsys, words, message):
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    assert main([*model, *words]) == USAGE_ERROR
    assert message in capsys.readouterr().err
    assert not Path("golden").exists()
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]


def test_help_has_the_defaults(capsys):
    assert main(["capture-golden", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for default in ("tensor parallel degree, one process a rank (default: 1)", "random lengths (default: 10)",
                    "(default: 42)", "(default: golden/MODEL-tpN)", "(default: auto)"):
        assert default in told
