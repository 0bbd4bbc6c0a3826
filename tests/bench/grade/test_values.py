import pytest
import torch

from fastkernels.bench.grade import Draw, make_inputs
from fastkernels.bench.grade.values import GENERATORS
from fastkernels.errors import ManifestError
from fastkernels.manifest import generators as manifest_generators
from fastkernels.manifest.scenario import InputSpec
from fastkernels.tasks.baseline.L1.linear import Linear

CPU = torch.device("cpu")


def draw_one(scenario_of, spec, tokens=5, hard="normal", phase="decode", seed=1):
    scenario = scenario_of(spec, tokens=tokens, phase=phase)
    return make_inputs(scenario, Draw("d", tokens, seed, hard), CPU)[spec.name]


def test_the_manifest_knows_the_same_generators():
    assert set(GENERATORS) == set(manifest_generators.GENERATORS)


def test_every_generator_takes_what_the_manifest_allows(scenario_of):
    """With its required arguments alone, and its name is what the manifest calls it."""
    arguments = {"value": 3, "max": 9, "vocab": 9, "slots": 99, "pages": 99, "total": "tokens", "sequences": 2,
                 "of": "x", "gate": "weight", "top_k": 1, "page_size": 16,
                 "experts": 8, "block_size": 16, "ranks": 2}
    shapes = {"cu_seqlens": (3,), "block_table": ("tokens", 4), "literal": (), "routed": ("tokens", 4),
              "router_logits": ("tokens", 8), "topk_ids": ("tokens", 2)}
    x = InputSpec("x", "normal", ("tokens", 4), "float32")
    lengths = {"total": "tokens", "sequences": 2}
    cu_seqlens = [InputSpec(f"context.cu_seqlens_{of}", "cu_seqlens", (3,), "int32", lengths) for of in "qk"]
    extra = {"batch_slots": {"pages": 99}}
    router = Linear(4, 2, dtype=torch.float32)
    for name, generator in manifest_generators.GENERATORS.items():
        spec = InputSpec("y", name, shapes.get(name, ("tokens",)), generator.dtypes[0] if generator.dtypes else "",
                         {key: arguments[key] for key in generator.required} | extra.get(name, {}))
        value = make_inputs(scenario_of(x, *cu_seqlens, spec), Draw("d", 5, 1, "normal"), CPU, router)["y"]
        assert isinstance(value, torch.Tensor) == generator.tensor, name
        if generator.tensor and name != "same_as":
            assert str(value.dtype) == f"torch.{spec.dtype}"


def test_normal_is_normal_and_depends_on_seed_and_name(scenario_of):
    a, b = (InputSpec(name, "normal", ("tokens", 4096), "bfloat16") for name in "ab")
    first = make_inputs(scenario_of(a, b), Draw("d", 5, 1, "normal"), CPU)
    again = make_inputs(scenario_of(a, b), Draw("d", 5, 1, "normal"), CPU)
    other = make_inputs(scenario_of(a, b), Draw("d", 5, 2, "normal"), CPU)
    assert torch.equal(first["a"], again["a"])
    assert not torch.equal(first["a"], first["b"])
    assert not torch.equal(first["a"], other["a"])
    assert first["a"].float().std().item() == pytest.approx(1, abs=0.05)
    wide = draw_one(scenario_of, InputSpec("x", "normal", ("tokens", 4096), "float32", {"std": 3.0}))
    assert wide.std().item() == pytest.approx(3, abs=0.15)
    high = draw_one(scenario_of, InputSpec("x", "normal", ("tokens", 4096), "float32", {"std": 1.0, "mean": 4.0}))
    assert (high.mean().item(), high.std().item()) == pytest.approx((4, 1), abs=0.05)


def test_large_tensors_repeat_no_row(scenario_of):
    x = draw_one(scenario_of, InputSpec("x", "normal", (1200, 1024), "bfloat16"))
    assert x.unique(dim=0).shape[0] == 1200
    assert x[1100:].float().std().item() == pytest.approx(1, abs=0.05)


def test_decode_positions_lie_below_max_and_hold_its_ends(scenario_of):
    spec = InputSpec("positions", "positions", ("tokens",), "int64", {"max": 1000})
    values = draw_one(scenario_of, spec, tokens=64)
    assert values.dtype == torch.int64
    assert (values.min(), values.max()) == (0, 999)
    assert 0 <= draw_one(scenario_of, spec, tokens=1).item() < 1000


def test_prefill_positions_are_runs_from_zero(scenario_of):
    spec = InputSpec("positions", "positions", ("tokens",), "int64", {"max": 1000})
    runs = set()
    for seed in range(12):
        values = draw_one(scenario_of, spec, tokens=50, phase="prefill", seed=seed)
        assert values[0] == 0
        assert values.max() < 1000
        breaks = int((values.diff() != 1).sum())
        assert breaks <= 2
        runs.add(breaks)
    assert len(runs) > 1
    assert draw_one(scenario_of, spec, tokens=1, phase="prefill").tolist() == [0]
    assert draw_one(scenario_of, spec, tokens=1200, phase="prefill").max() < 1000


def test_token_ids_hold_the_ends_of_the_table(scenario_of):
    spec = InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 500})
    ids = draw_one(scenario_of, spec, tokens=9)
    assert (ids.min(), ids.max()) == (0, 499)
    assert draw_one(scenario_of, spec, tokens=9, hard="ties").unique().numel() == 1


def test_ids_lie_on_both_sides_of_a_ranks_border(scenario_of):
    spec = InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 1000, "local": 250})
    for seed in range(10):
        assert {0, 249, 250, 499, 500, 999} <= set(draw_one(scenario_of, spec, tokens=9, seed=seed).tolist())
    assert set(draw_one(scenario_of, spec, tokens=2).tolist()) == {250, 999}
    of_two = InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 998, "local": 500})
    assert {0, 499, 500, 997} <= set(draw_one(scenario_of, of_two, tokens=9).tolist()) <= set(range(998))


def test_five_ids_differ_from_draw_to_draw_within_the_ranks_share(scenario_of):
    """Rows of other ranks are zero, so that calls would be alike if only the ends were looked up."""
    spec = InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 200_000, "local": 100_000})
    draws = [draw_one(scenario_of, spec, tokens=5, seed=seed).tolist() for seed in range(12)]
    own = [frozenset(ids) - {0, 99_999, 100_000, 199_999} for ids in draws]
    assert len(set(own)) == 12
    assert all(min(ids) >= 100_000 for ids in own)


def test_half_of_many_ids_are_the_ranks_own(scenario_of):
    spec = InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 1000, "local": 10})
    ids = draw_one(scenario_of, spec, tokens=400)
    assert 160 < int(((ids >= 10) & (ids < 20)).sum()) < 250
    assert int((ids < 500).sum()) > 250 > int((ids >= 500).sum()) > 50


def test_a_single_id_is_one_that_the_rank_holds(scenario_of):
    spec = InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 1000, "local": 10})
    own = set(range(10, 20))
    assert all(draw_one(scenario_of, spec, tokens=1, seed=seed).item() in own for seed in range(20))
    assert draw_one(scenario_of, spec, tokens=9).max() == 999
    assert set(draw_one(scenario_of, spec, tokens=9, hard="ties").tolist()) <= own


def test_slots_are_different_and_padded_in_ties(scenario_of):
    spec = InputSpec("slots", "slot_mapping", ("tokens",), "int64", {"slots": 100})
    slots = draw_one(scenario_of, spec, tokens=80)
    assert slots.unique().numel() == 80
    assert slots.min() >= 0
    assert slots.max() < 100
    padded = draw_one(scenario_of, spec, tokens=80, hard="ties")
    assert 5 < int((padded == -1).sum()) < 45
    assert padded[padded >= 0].unique().numel() == int((padded >= 0).sum())


def test_the_first_and_the_last_slot_are_written(scenario_of):
    spec = InputSpec("slots", "slot_mapping", ("tokens",), "int64", {"slots": 100})
    for seed in range(10):
        slots = draw_one(scenario_of, spec, tokens=9, seed=seed, hard="mixed")
        assert {0, 99} <= set(slots.tolist())
        assert slots.unique().numel() == 9
        assert set(draw_one(scenario_of, spec, tokens=2, seed=seed, hard="mixed").tolist()) == {0, 99}
    assert len({draw_one(scenario_of, spec, tokens=9, seed=seed, hard="mixed")[0].item() for seed in range(20)}) > 5
    assert sorted(draw_one(scenario_of, spec, tokens=100, hard="mixed").tolist()) == list(range(100))


@pytest.mark.parametrize(("tokens", "size"), [(17, 16), (33, 32), (63, 32), (300, 128)])
def test_mixed_choices_fill_whole_blocks_and_all_but_one_row(scenario_of, tokens, size):
    spec = InputSpec("ids", "topk_ids", ("tokens", 3), "int32", {"experts": 8})
    ids = draw_one(scenario_of, spec, tokens=tokens, hard="mixed")
    assert all(row.unique().numel() == 3 for row in ids)
    assert {size, size - 1} <= set(ids.flatten().bincount(minlength=8).tolist())


def test_choices_of_few_tokens_and_of_few_experts_are_as_ever(scenario_of):
    for tokens, experts in ((15, 8), (40, 4)):
        spec = InputSpec("ids", "topk_ids", ("tokens", 3), "int32", {"experts": experts})
        assert torch.equal(draw_one(scenario_of, spec, tokens=tokens, hard="mixed"),
                           draw_one(scenario_of, spec, tokens=tokens))


def test_mixed_corrections_make_every_score_negative(scenario_of):
    spec = InputSpec("bias", "correction_bias", (64,), "float32")
    assert (draw_one(scenario_of, spec, hard="mixed") + 1.0).mean() < -0.5
    assert draw_one(scenario_of, spec).median().abs() < 0.05
    spec = InputSpec("gating_output", "normal", (64,), "float32", {"std": 0.02})
    assert draw_one(scenario_of, spec, hard="mixed").mean().abs() < 0.5


def test_a_correction_bias_shows_in_weights_and_keeps_some_experts_out(scenario_of):
    bias = draw_one(scenario_of, InputSpec("bias", "correction_bias", (256,), "float32"))
    banned = bias < -0.5
    assert int(banned.sum()) == 16
    assert 0.03 < bias[~banned].abs().mean() <= bias[~banned].abs().max() < 0.09


def test_too_few_slots_are_an_error(scenario_of):
    spec = InputSpec("slots", "slot_mapping", ("tokens",), "int64", {"slots": 3})
    with pytest.raises(ValueError, match="input slots: 5 different values below 3 are asked for"):
        draw_one(scenario_of, spec)


def test_block_table_pages_are_different_across_the_batch(scenario_of):
    table = draw_one(scenario_of, InputSpec("t", "block_table", ("tokens", 6), "int32", {"pages": "6*tokens+2"}))
    assert table.shape == (5, 6)
    assert table.dtype == torch.int32
    assert table.unique().numel() == 30
    assert not torch.equal(table.flatten(), table.flatten().sort().values)


def test_seqused_k_reaches_max(scenario_of):
    spec = InputSpec("used", "seqused_k", ("tokens",), "int32", {"max": 1024})
    used = draw_one(scenario_of, spec, tokens=7)
    assert used.max() == 1024
    assert used.min() >= 1
    assert draw_one(scenario_of, spec, tokens=1).item() == 1024
    assert draw_one(scenario_of, spec, tokens=1, hard="tiny").item() <= 1024


@pytest.mark.parametrize(("tokens", "sequences"), [(100, 8), (8, 8), (3, 8), (1, 1), (1, 8)])
def test_cu_seqlens_cover_every_token(scenario_of, tokens, sequences):
    spec = InputSpec("cu", "cu_seqlens", (sequences + 1,), "int32", {"total": "tokens", "sequences": sequences})
    ends = draw_one(scenario_of, spec, tokens=tokens)
    assert ends.shape == (min(tokens, sequences) + 1,)
    assert (ends[0], ends[-1]) == (0, tokens)
    assert (ends.diff() >= 1).all()


def test_key_sequences_are_at_least_as_long_as_their_queries(scenario_of):
    q = InputSpec("q", "cu_seqlens", (5,), "int32", {"total": "tokens", "sequences": 4})
    k = InputSpec("k", "cu_seqlens", (5,), "int32", {"total": "tokens+64", "sequences": 4})
    values = make_inputs(scenario_of(q, k, tokens=30), Draw("d", 30, 3, "normal"), CPU)
    assert (values["k"].diff() >= values["q"].diff()).all()
    assert values["k"][-1] == 94


def test_same_as_has_memory_of_its_own(scenario_of):
    q = InputSpec("q", "cu_seqlens", (3,), "int32", {"total": "tokens", "sequences": 2})
    k = InputSpec("k", "same_as", (3,), "int32", {"of": "q"})
    values = make_inputs(scenario_of(q, k), Draw("d", 5, 3, "normal"), CPU)
    assert torch.equal(values["q"], values["k"])
    assert values["q"].data_ptr() != values["k"].data_ptr()


def test_literals_follow_the_token_count_of_the_draw(scenario_of):
    scenario = scenario_of(*(InputSpec(n, "literal", args={"value": v}) for n, v in (("n", "tokens+1"), ("f", 2.5))))
    assert make_inputs(scenario, Draw("d", 8, 1, "normal"), CPU) == {"n": 9, "f": 2.5}


@pytest.mark.parametrize("hard", ["normal", "large", "zeros"])
def test_routing_weights_are_no_noise(scenario_of, hard):
    spec = InputSpec("x", "routing_weights", ("tokens", 8), "float32")
    weights = draw_one(scenario_of, spec, tokens=64, hard=hard)
    assert weights.min() >= 0
    if hard == "zeros":
        assert 0.4 < (weights == 0).float().mean() < 0.6
    else:
        assert weights.sum(-1).tolist() == pytest.approx([1.0] * 64)


def test_an_unknown_generator_is_named(scenario_of):
    with pytest.raises(ManifestError, match=r"input x: values: 'norml' is not one of .*Did you mean 'normal'"):
        draw_one(scenario_of, InputSpec("x", "norml", (3,), "float32"))


def test_hard_values_are_what_they_say(scenario_of):
    spec = InputSpec("x", "normal", ("tokens", 512), "bfloat16")
    by_kind = {kind: draw_one(scenario_of, spec, tokens=9, hard=kind).float()
               for kind in ("large", "moderate", "tiny", "zeros", "ties", "mixed", "mixed-gentle")}
    assert 100 < by_kind["large"].abs().max() < 6000
    assert by_kind["large"].abs().median() < 2
    assert 3 < by_kind["moderate"].abs().max() < 20
    assert by_kind["tiny"].abs().max() < 1e-2
    assert (by_kind["zeros"][::2] == 0).all()
    assert (by_kind["zeros"][1] != 0).any()
    assert by_kind["ties"].unique().numel() == 7
    assert by_kind["ties"][0].unique().numel() == 1
    scales = by_kind["mixed"].norm(dim=1)
    assert scales.max() / scales.min() > 100
    assert all(x.isfinite().all() for x in by_kind.values())


def test_first_rows_of_ties_differ_between_inputs(scenario_of):
    rows = set()
    for name in "abcdefgh":
        spec = InputSpec(name, "normal", ("tokens", 64), "bfloat16")
        rows.add(float(draw_one(scenario_of, spec, tokens=9, hard="ties")[0, 0]))
    assert len(rows) > 2
    assert 0.0 not in rows


def test_float16_stays_finite_when_large(scenario_of):
    assert draw_one(scenario_of, InputSpec("x", "normal", ("tokens", 512), "float16"), hard="large").isfinite().all()
