"""Grading on golden data: where it is used, where it is not, what it finds, and every way in which it can be broken."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models.parity import make_tiny

from fastkernels.bench.grade import Draw, make_inputs
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.cli.main import main
from fastkernels.errors import ManifestError
from fastkernels.manifest import Scenario, load_manifest
from fastkernels.manifest.golden import digest
from fastkernels.results import Verdict

HERE = GraderSettings(device="cpu", seed=3, timing=False)
CPU = torch.device("cpu")
CONFIG = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 512}
FORGETS_THE_LAST = '''
from torch import nn

class StoreKVCache(nn.Module):
    """Right but for batches of many neighbouring slots, as whole pages of a prompt are: it forgets the last token."""

    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        neighbours = int((slot_mapping.diff() == 1).sum())
        count = slot_mapping.numel() - (neighbours > 16)
        used = slot_mapping >= 0
        used[count:] = False
        slots = slot_mapping[used]
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        key_cache[page, within] = key[used]
        value_cache[page, within] = value[used]
'''


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden data of three requests; not to be changed."""
    model = make_tiny(CONFIG, tmp_path_factory.mktemp("models") / "tiny-mixtral").directory
    output = tmp_path_factory.mktemp("golden") / "out"
    words = ["--num-requests", "3", "--device", "cpu", "--output", str(output)]
    assert main(["capture-golden", "--model", str(model), *words]) == 0
    return output


@pytest.fixture(scope="module")
def scenarios(captured: Path) -> dict[str, Scenario]:
    """Scenarios by the record's name."""
    return {s.golden["record"]: s for s in load_manifest(captured / "golden.yaml").scenarios() if s.golden}


@pytest.fixture
def copy(captured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to break, `out` in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(captured, tmp_path / "out"))


def draw(scenario: Scenario, tokens: int | None = None, hard: str = "normal", seed: int = 7) -> dict[str, object]:
    return make_inputs(scenario, Draw("", tokens or scenario.tokens, seed, hard), CPU)


def alike(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


GRADED = (
    "store_kvcache-mixed0-0", "flash_attn_decode-decode0-0", "flash_attn_prefill-mixed0-0", "topk_softmax-mixed0-0",
    "moe_align-decode0-0", "moe_grouped_gemm-decode0-0", "rotary_emb-decode0-0", "embedding-decode0-0",
    "vocab_parallel_embedding-mixed0-0", "attention-mixed0-0", "llama_attention-decode0-0",
    "mixtral_decoder_layer-mixed0-0",
)  # fmt: skip


def test_self_tests_pass(scenarios: dict[str, Scenario]) -> None:
    with KernelGrader(replace(HERE, self_test=True)) as grader:
        results = {name: grader.grade(scenarios[name]) for name in GRADED}
    failed = {name: (r.verdict, r.message, r.evidence) for name, r in results.items() if r.verdict != Verdict.PASSED}
    assert not failed


def test_a_candidate_that_is_wrong_on_the_golden_structure_alone(
    scenarios: dict[str, Scenario], tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "store_kvcache.py").write_text(FORGETS_THE_LAST)
    golden = scenarios["store_kvcache-mixed0-0"]
    with KernelGrader(replace(HERE, candidates_dir=tmp_path)) as grader:
        assert grader.grade(replace(golden, golden=None)).verdict is Verdict.PASSED
        result = grader.grade(golden)
    assert result.verdict is Verdict.MISSED_WRITE, result.message
    assert "_cache" in result.message + result.evidence


def test_normal_draws_at_the_recorded_count_repeat_the_call(scenarios: dict[str, Scenario]) -> None:
    for name, scenario in scenarios.items():
        if scenario.level == 1:
            first, second = draw(scenario), draw(scenario, seed=8)
            assert list(first) == list(second)
            for key, spec in scenario.golden["inputs"].items():
                if not spec["dtype"]:
                    assert first[key] == spec["value"]
                    continue
                assert (str(first[key].dtype), list(first[key].shape)) == (f"torch.{spec['dtype']}", spec["shape"])
                assert torch.equal(first[key], second[key]) == spec["stored"], (name, key)
                assert first[key].data_ptr() != second[key].data_ptr()


def test_all_other_draws_are_the_ordinary_ones(scenarios: dict[str, Scenario]) -> None:
    for name in ("store_kvcache-mixed0-0", "flash_attn_decode-decode0-0", "llama_attention-mixed0-0"):
        golden = scenarios[name]
        ordinary = replace(golden, golden=None)
        for tokens, hard in ((golden.tokens + 1, "normal"), (1, "normal"), (golden.tokens, "ties"), (5, "zeros")):
            one, other = draw(golden, tokens, hard), draw(ordinary, tokens, hard)
            assert one.keys() == other.keys()
            assert all(alike(one[key], other[key]) for key in one)
        assert not all(alike(one, draw(ordinary)[key]) for key, one in draw(golden).items() if key in draw(ordinary))


def test_equal_data_elsewhere_is_the_same_computation(scenarios: dict[str, Scenario], copy: Path) -> None:
    moved = {s.golden["record"]: s for s in load_manifest(copy / "golden.yaml").scenarios() if s.golden}
    for name, scenario in scenarios.items():
        assert moved[name].golden["file"] != scenario.golden["file"]
        assert moved[name].shape_key == scenario.shape_key
        assert scenario.shape_key != replace(scenario, golden=None).shape_key
        assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario


def test_other_data_is_another_computation(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["store_kvcache-mixed0-0"]
    other = replace(scenario, golden={**scenario.golden, "sha256": "0" * 64})
    assert other.shape_key != scenario.shape_key


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def edit_index(folder: Path, change) -> None:
    """Change the index and, so that this is not what is noticed, its hash in the manifest."""
    path = folder / "golden.json"
    before, data = digest(path), json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    edit_manifest(folder, before, digest(path))


def edit_manifest(folder: Path, old: str, new: str) -> None:
    path = folder / "golden.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


STORE = "out/golden.yaml: operators.store_kvcache.scenarios[0].golden: "
BROKEN = {
    "a changed file": (
        lambda out: flip(out / "decode0.safetensors"),
        "out/golden.json: files.decode0.safetensors: out/decode0.safetensors: changed since it was captured: its "
        "SHA-256 is "),
    "a missing file": (
        lambda out: (out / "mixed0.safetensors").unlink(),
        "out/golden.json: files.mixed0.safetensors: out/mixed0.safetensors: no such file; `fastkernels capture-golden` "
        "writes it"),
    "a changed index": (
        lambda out: (out / "golden.json").write_text("{}"),
        "out/golden.yaml: golden.index: out/golden.json: changed since it was captured: "),
    "a missing index": (
        lambda out: (out / "golden.json").unlink(), "out/golden.yaml: golden.index: out/golden.json: no such file; "),
    "another version": (
        lambda out: edit_index(out, lambda data: data.update(schema_version=7)),
        "out/golden.json: schema_version: 7 is not 1, the version that is read here; capture it anew"),
    "an index without tp": (
        lambda out: edit_index(out, lambda data: data.pop("tp")), "out/golden.json: tp: field required"),
    "a record in no file": (
        lambda out: edit_index(out, lambda data: data["records"][0].update(file="x.safetensors")),
        "out/golden.json: records[0].file: 'x.safetensors' is not in files"),
    "an unknown record": (
        lambda out: edit_manifest(out, "golden: store_kvcache-decode0-0", "golden: store_kvcache-decode0-7"),
        f"{STORE}'store_kvcache-decode0-7' is no record of golden.json. Did you mean 'store_kvcache-decode0-0'?"),
    "another operator's record": (
        lambda out: edit_manifest(out, "golden: store_kvcache-decode0-0", "golden: rotary_emb-decode0-0"),
        f"{STORE}rotary_emb-decode0-0 is a record of rotary_emb"),
    "other token counts": (
        lambda out: edit_index(out, lambda data: next(
            r for r in data["records"] if r["name"] == "store_kvcache-decode0-0").update(tokens=4)),
        f"{STORE}store_kvcache-decode0-0 has 4 tokens, which are not among the entry's"),
    "another dtype": (
        lambda out: edit_manifest(out, "slot_mapping: {shape: [tokens], dtype: int64, values: slot_mapping",
                                  "slot_mapping: {shape: [tokens], dtype: int32, values: slot_mapping"),
        f"{STORE}store_kvcache-decode0-0 has slot_mapping in int64, the entry in int32"),
    "an input that the entry lacks": (
        lambda out: edit_manifest(out, "        value_cache: {", "        value_cach: {"),
        "has an input value_cache without values, which the entry lacks. Did you mean 'value_cach'?"),
    "no index": (
        lambda out: edit_manifest(out, next(line for line in (out / "golden.yaml").read_text().splitlines(keepends=True)
                                            if line.startswith("golden: {index: ")), ""),
        "needs the key golden at the top, with index and sha256"),
    "an unknown key": (
        lambda out: edit_manifest(out, "golden: {index:", "golden: {indx:"),
        "out/golden.yaml: golden.indx: unknown key; allowed are index, sha256. Did you mean 'index'?"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_data_is_a_named_error(copy: Path, change, message: str) -> None:
    load_manifest(copy / "golden.yaml")
    change(copy)
    with pytest.raises(ManifestError) as error:
        load_manifest(copy / "golden.yaml")
    assert message in str(error.value)


def test_data_that_changes_after_the_manifest_was_read(copy: Path) -> None:
    (scenario,) = (s for s in load_manifest(copy / "golden.yaml").scenarios()
                   if s.golden["record"] == "store_kvcache-decode0-0")  # fmt: skip
    flip(copy / "decode0.safetensors")
    with pytest.raises(ManifestError, match=r"decode0.safetensors: golden data changed since the manifest was read"):
        draw(replace(scenario, golden={**scenario.golden, "file": str(copy / "decode0.safetensors")}))
    (copy / "decode0.safetensors").unlink()
    with pytest.raises(ManifestError, match=r"decode0.safetensors: golden data cannot be read: No such file"):
        draw(scenario)


def test_a_file_that_is_not_what_the_index_says(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["store_kvcache-decode0-0"]
    with pytest.raises(ManifestError, match="no tensor 'other/slot_mapping' in it, though the index says so"):
        draw(replace(scenario, golden={**scenario.golden, "record": "other"}))
    inputs = scenario.golden["inputs"]
    wrong = {**inputs, "slot_mapping": {**inputs["slot_mapping"], "shape": [9]}}
    with pytest.raises(ManifestError, match=r"slot_mapping: found int64 \[3\], the index has int64 \[9\]"):
        draw(replace(scenario, golden={**scenario.golden, "inputs": wrong}))
