"""Golden data against the run that it was captured from, by hand and by transformers."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from models.parity import Tiny, make_tiny
from safetensors.torch import load_file

from fastkernels.cli.main import main
from fastkernels.engine.golden import Capture, record
from fastkernels.engine.ranks import run_ranks
from fastkernels.engine.requests import Request, draw_requests, kept_passes, plan_passes
from fastkernels.errors import ModelError
from fastkernels.manifest import load_manifest
from fastkernels.manifest.reader import read_config

CONFIG = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 256}
PAGE = 16


class Captured:
    """A captured directory and what is in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.index: dict[str, Any] = json.loads((directory / "golden.json").read_text())
        self.tensors = {name: load_file(directory / name) for name in self.index["files"]}

    def records(self, operator: str, passed: str) -> list[dict[str, Any]]:
        found = [r for r in self.index["records"] if (r["operator"], r["passed"]) == (operator, passed)]
        assert found, f"no record of {operator} in {passed}"
        return found

    def value(self, record: dict[str, Any], name: str) -> Any:
        described = record["inputs"][name]
        if "value" in described:
            return described["value"]
        tensor = self.tensors[record["file"]][f"{record['name']}/{name}"]
        assert [str(tensor.dtype), list(tensor.shape)] == [f"torch.{described['dtype']}", described["shape"]]
        return tensor

    def one(self, operator: str, passed: str, name: str) -> Any:
        return self.value(self.records(operator, passed)[0], name)

    def spans(self, passed: str) -> list[tuple[int, int, int]]:
        """(request, start, count) in the order of the batch: one token each first."""
        spans = [(s["request"], s["start"], s["count"]) for s in self.index["passes"][passed]["spans"]]
        return sorted(spans, key=lambda span: span[2] > 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(CONFIG, tmp_path_factory.mktemp("models") / "tiny-mixtral")


@pytest.fixture(scope="module")
def captured(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    output = tmp_path_factory.mktemp("golden") / "out"
    assert main(["capture-golden", "--model", str(tiny.directory), "--output", str(output), "--device", "cpu"]) == 0
    return Captured(output)


@pytest.fixture(scope="module")
def sequences(tiny: Tiny, captured: Captured) -> list[list[int]]:
    """Every request's prompt, as the seed gives it, and the greedy tokens of transformers after it."""
    requests = draw_requests(10, 42, 99, 256)
    lengths = [(r["prompt_tokens"], r["output_tokens"]) for r in captured.index["requests"]]
    assert [(len(r.prompt), r.output_tokens) for r in requests] == lengths
    found = []
    for request in requests:
        tokens = list(request.prompt)
        with torch.inference_mode():
            while len(tokens) < request.total:
                tokens.append(int(tiny.reference(torch.tensor([tokens])).logits[0, -1].argmax()))
        found.append(tokens)
    return found


def phases(captured: Captured, *kinds: str) -> list[str]:
    found = [name for name in captured.index["passes"] if name.rstrip("01") in kinds]
    assert found, f"no {kinds} among {list(captured.index['passes'])}"
    return found


def test_the_run_has_every_phase(captured: Captured) -> None:
    assert {name.rstrip("01") for name in captured.index["passes"]} == {"prefill", "mixed", "decode"}


def test_positions_follow_from_the_spans(captured: Captured) -> None:
    for passed in captured.index["passes"]:
        expected = [p for _, start, count in captured.spans(passed) for p in range(start, start + count)]
        for operator in ("rotary_emb", "llama_attention", "mixtral_decoder_layer"):
            assert captured.one(operator, passed, "positions").tolist() == expected


def test_token_ids_are_prompts_and_greedy_tokens(captured: Captured, sequences: list[list[int]]) -> None:
    for passed in captured.index["passes"]:
        expected = [t for request, start, count in captured.spans(passed)
                    for t in sequences[request][start : start + count]]  # fmt: skip
        for operator in ("vocab_parallel_embedding", "embedding"):
            assert captured.one(operator, passed, "input_ids").tolist() == expected


def test_lengths_follow_from_the_spans(captured: Captured) -> None:
    for passed in phases(captured, "decode", "mixed"):
        used = [start + 1 for _, start, count in captured.spans(passed) if count == 1]
        assert captured.one("flash_attn_decode", passed, "seqused_k").tolist() == used
        assert captured.one("attention", passed, "context.seqused_k").tolist() == used
        assert captured.one("attention", passed, "context.num_decodes") == len(used)
        assert captured.one("flash_attn_decode", passed, "max_seqlen_k") == max(used)
    for passed in phases(captured, "prefill", "mixed"):
        new = [count for _, _, count in captured.spans(passed) if count > 1]
        keys = [start + count for _, start, count in captured.spans(passed) if count > 1]
        assert captured.one("flash_attn_prefill", passed, "cu_seqlens_q").tolist() == [0, *accumulate(new)]
        assert captured.one("flash_attn_prefill", passed, "cu_seqlens_k").tolist() == [0, *accumulate(keys)]
        assert captured.one("attention", passed, "context.max_seqlen_q") == max(new)
        assert captured.one("flash_attn_prefill", passed, "max_seqlen_k") == max(keys)


def test_slots_follow_from_positions_and_pages(captured: Captured) -> None:
    """The block table of the first decode pass, in which every request takes part, tells all requests' pages."""
    spans = captured.spans("decode0")
    tables = captured.one("flash_attn_decode", "decode0", "block_table").tolist()
    pages = {request: table[: start // PAGE + 1] for (request, start, _), table in zip(spans, tables, strict=True)}
    assert sorted(pages) == list(range(10))
    held = [page for table in pages.values() for page in table]
    assert len(set(held)) == len(held)
    for passed in phases(captured, "prefill", "mixed"):
        expected = [pages[request][p // PAGE] * PAGE + p % PAGE for request, start, count in captured.spans(passed)
                    for p in range(start, start + count)]  # fmt: skip
        assert captured.one("store_kvcache", passed, "slot_mapping").tolist() == expected
        assert captured.one("attention", passed, "context.slot_mapping").tolist() == expected
    cached = [p for p in phases(captured, "prefill", "mixed") if any(s[1] and s[2] > 1 for s in captured.spans(p))]
    assert cached, "no chunk of a prompt is continued"
    for passed in cached:
        expected = [pages[request][p // PAGE] * PAGE + p % PAGE for request, start, count in captured.spans(passed)
                    if count > 1 for p in range(start + count)]  # fmt: skip
        assert captured.one("attention", passed, "context.key_slots").tolist() == expected


def test_the_routers_choice_is_that_of_transformers(
    captured: Captured, tiny: Tiny, sequences: list[list[int]]
) -> None:  # fmt: skip
    with torch.inference_mode():
        logits = [tiny.reference(torch.tensor([t]), output_router_logits=True).router_logits for t in sequences]
    for passed in captured.index["passes"]:
        routers = captured.records("topk_softmax", passed)
        assert [r["layers"] for r in routers] == [[f"model.layers.{i}.mlp.experts.router"] for i in range(2)]
        for layer, router in enumerate(routers):
            got = captured.value(router, "gating_output")
            expected = torch.cat([logits[request][layer][start : start + count]
                                  for request, start, count in captured.spans(passed)])  # fmt: skip
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
            chosen = got.topk(2).indices.sort().values
            if got.shape[0] * 2 * 4 > 8:
                ids = captured.value(captured.records("moe_align", passed)[layer], "topk_ids")
                assert torch.equal(ids.long().sort().values, chosen)


def test_the_order_of_rows_is_that_of_the_choice(captured: Captured) -> None:
    passed = "prefill0"
    for layer, align in enumerate(captured.records("moe_align", passed)):
        ids, size = captured.value(align, "topk_ids").flatten(), captured.value(align, "block_size")
        products = [r for r in captured.records("moe_grouped_gemm", passed) if f"layers.{layer}." in r["layers"][0]]
        assert len(products) == 2
        for product in products:
            order, owners = (captured.value(product, name) for name in ("sorted_token_ids", "expert_ids"))
            padded = int(captured.value(product, "num_tokens_post_padded"))
            rows = [(int(row), int(owners[place // size])) for place, row in enumerate(order[:padded])
                    if row < ids.numel()]  # fmt: skip
            assert sorted(rows) == list(enumerate(ids.tolist()))


def test_floats_without_structure_are_not_stored(captured: Captured) -> None:
    names = {key.split("/")[1] for held in captured.tensors.values() for key in held}
    assert names & {"query", "key", "x", "hidden_states", "key_cache", "context.key_cache"} == set()
    floats = {key.split("/")[1] for held in captured.tensors.values() for key, t in held.items()
              if t.is_floating_point()}  # fmt: skip
    assert floats == {"gating_output"}
    query = captured.records("flash_attn_decode", "decode0")[0]["inputs"]["query"]
    assert query == {"dtype": "float32", "shape": [10, 4, 16], "stored": False}


def test_equal_layers_share_one_record(captured: Captured) -> None:
    (store,) = captured.records("store_kvcache", "decode0")
    assert store["layers"] == [f"model.layers.{i}.self_attn.attn.store_kvcache" for i in range(2)]


def test_every_record_is_one_scenario_of_the_manifest(captured: Captured) -> None:
    scenarios = load_manifest(captured.directory / "golden.yaml").scenarios()
    assert sorted(s.golden["record"] for s in scenarios) == sorted(r["name"] for r in captured.index["records"])
    assert {(s.golden["record"], s.tokens) for s in scenarios} == {
        (r["name"], r["tokens"]) for r in captured.index["records"]}  # fmt: skip
    by_record = {s.golden["record"]: s for s in scenarios}
    assert by_record["flash_attn_decode-decode0-0"].phase == "decode"
    assert by_record["flash_attn_decode-decode0-0"].tokens == 10
    assert by_record["flash_attn_prefill-prefill0-0"].phase == "prefill"
    assert "w2" in {s.variant.split("_")[0] for s in scenarios if s.op == "moe_grouped_gemm"}


def test_the_same_seed_gives_the_same_files(tiny: Tiny, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> dict[str, bytes]:
        words = ["--load-format", "dummy", "--num-requests", "2", "--seed", str(seed), "--op", "rotary_emb",
                 "topk_softmax", "--device", "cpu"]  # fmt: skip
        output = tmp_path / name
        assert main(["capture-golden", "--model", str(tiny.directory), "--output", str(output), *words]) == 0
        return {path.name: path.read_bytes() for path in output.iterdir()}

    first, again, other = run("a", 1), run("b", 1), run("c", 2)
    assert first == again
    assert first["golden.json"] != other["golden.json"]
    operators = {r["operator"] for r in json.loads(first["golden.json"])["records"]}
    assert operators == {"rotary_emb", "topk_softmax"}


def test_two_ranks_record_what_one_does(tiny: Tiny, captured: Captured, tmp_path: Path) -> None:
    words = ["--model", str(tiny.directory), "--device", "cpu", "--output", str(tmp_path / "two"), "--tp", "2"]
    assert main(["capture-golden", *words]) == 0
    two = Captured(tmp_path / "two")
    assert (two.index["tp"], two.index["passes"]) == (2, captured.index["passes"])
    for passed in two.index["passes"]:
        for operator, name in (("vocab_parallel_embedding", "input_ids"), ("store_kvcache", "slot_mapping")):
            assert torch.equal(two.one(operator, passed, name), captured.one(operator, passed, name))
        torch.testing.assert_close(two.one("topk_softmax", passed, "gating_output"),
                                   captured.one("topk_softmax", passed, "gating_output"), atol=1e-4, rtol=1e-4)
        ids = two.one("vocab_parallel_embedding", passed, "input_ids")  # rank 0 holds 64 of the 99 entries
        assert torch.equal(two.one("embedding", passed, "input_ids"), torch.where(ids < 64, ids, 0))
    query = two.records("flash_attn_decode", "decode0")[0]["inputs"]["query"]
    assert query["shape"] == [10, 2, 16]
    assert {s.tp for s in load_manifest(two.directory / "golden.yaml").scenarios()} == {2}


def fail_on_the_second(device: torch.device) -> None:
    from fastkernels.runtime.parallel import tp_group

    if tp_group().rank == 1:
        raise ModelError("rank 1 says no")


def test_an_error_of_a_rank_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # handed on to the ranks, which import this module
    with pytest.raises(ModelError, match=r"^rank 1 says no$"):
        run_ranks(fail_on_the_second, 2, "cpu")


def test_hooks_are_gone_afterwards(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastkernels.engine import golden

    models = []
    load = golden.load_model
    monkeypatch.setattr(golden, "load_model", lambda *args, **kwargs: models.append(load(*args, **kwargs)) or models[0])
    capture = Capture(tiny.directory, read_config(tiny.directory), 1, 0, "auto", operators=("rotary_emb", "embedding"))
    assert record(capture, torch.device("cpu"), lambda text: None).records
    assert not any(module._forward_pre_hooks for module in models[0].modules())
    assert not any("forward_native" in vars(module) for module in models[0].modules())


def test_passes_by_hand() -> None:
    requests = [Request([0] * 5, 3), Request([0] * 4, 2), Request([0] * 1, 1)]
    passes = [[(s.request, s.start, s.count) for s in one.spans] for one in plan_passes(requests, pass_tokens=6)]
    assert passes == [
        [(0, 0, 5), (1, 0, 1)],
        [(0, 5, 1), (1, 1, 3), (2, 0, 1)],
        [(0, 6, 1), (1, 4, 1)],
    ]  # fmt: skip
    assert [one.phase for one in plan_passes(requests, pass_tokens=6)] == ["mixed", "mixed", "decode"]


def test_the_first_and_the_last_pass_of_each_phase_are_kept() -> None:
    passes = list(plan_passes([Request([0] * 9, 4), Request([0] * 5, 6)], pass_tokens=4))
    assert [one.phase for one in passes] == ["prefill"] * 2 + ["mixed"] * 2 + ["decode"] * 5
    assert kept_passes(passes) == {0: "prefill0", 1: "prefill1", 2: "mixed0", 3: "mixed1", 4: "decode0", 8: "decode1"}


@pytest.mark.parametrize("max_positions", [4, 64, 131072])
def test_requests_fit_the_models_positions(max_positions: int) -> None:
    requests = draw_requests(50, 1, 99, max_positions)
    assert len({len(r.prompt) for r in requests}) > 1
    for request in requests:
        assert len(request.prompt) >= 1
        assert len(request.prompt) + request.output_tokens <= max_positions
        assert all(0 <= token < 99 for token in request.prompt)
