"""Slots, positions and routed hidden states are those of a batch that could be."""

import pytest
import torch

from fastkernels.bench.grade import Draw, make_inputs
from fastkernels.manifest.scenario import InputSpec
from fastkernels.runtime.invoke import split
from fastkernels.tasks.baseline.L1.grouped_topk import GroupedTopk
from fastkernels.tasks.baseline.L1.linear import Linear
from fastkernels.tasks.baseline.L1.moe_align import MoeAlignBlockSize

CPU = torch.device("cpu")
PAGE = 16


def decode(context=64):
    pages = context // PAGE
    return [
        InputSpec("context.block_table", "block_table", ("tokens", pages), "int32", {"pages": f"{pages}*tokens+3"}),
        InputSpec("context.seqused_k", "seqused_k", ("tokens",), "int32", {"max": context, "padded": True}),
        InputSpec("context.num_decodes", "literal", args={"value": "tokens"}),
        InputSpec("context.max_seqlen_k", "literal", args={"value": context}),
    ]


def prefill(sequences=3, cached=0, keys=True, first=0):
    ends = (sequences + 1,)
    found = [
        InputSpec("context.cu_seqlens_q", "cu_seqlens", ends, "int32", {"total": "tokens", "sequences": sequences}),
        InputSpec("context.cu_seqlens_k", "cu_seqlens", ends, "int32",
                  {"total": f"tokens+{cached}", "sequences": sequences}),
        InputSpec("context.max_seqlen_q", "literal", args={"value": "tokens"}),
        InputSpec("context.prefill_max_seqlen_k", "literal", args={"value": f"tokens+{cached}"}),
    ]  # fmt: skip
    slots = {"page_size": PAGE, "pages": first + 64, "first": first}
    return found + keys * [InputSpec("context.key_slots", "key_slots", (f"tokens+{cached}",), "int64", slots)]


def rest(tokens="tokens", **args):
    return [InputSpec("context.slot_mapping", "batch_slots", (tokens,), "int64", {"page_size": PAGE, **args}),
            InputSpec("positions", "batch_positions", (tokens,), "int64"),
            InputSpec("context.key_cache", "normal", (99, PAGE, 1, 8), "float32"),
            InputSpec("context.value_cache", "normal", (99, PAGE, 1, 8), "float32")]


@pytest.fixture
def drawn(scenario_of):
    def draw(*specs, tokens=20, hard="normal", seed=3):
        return make_inputs(scenario_of(*specs, tokens=tokens), Draw("d", tokens, seed, hard), CPU)

    return draw


def test_a_decoding_token_goes_to_the_last_place_of_its_sequence(drawn):
    values = drawn(*decode(), *rest())
    used, table, slots = (values[f"context.{name}"] for name in ("seqused_k", "block_table", "slot_mapping"))
    for sequence in range(20):
        last = used[sequence].item() - 1
        assert values["positions"][sequence] == last
        assert slots[sequence] == table[sequence, last // PAGE] * PAGE + last % PAGE
    assert slots.unique().numel() == 20


def test_padding_of_a_decode_batch_has_no_length_and_no_slot(drawn):
    values = drawn(*decode(), *rest(), tokens=80, hard="ties")
    empty = values["context.seqused_k"] == 0
    assert 5 < int(empty.sum()) < 45
    assert torch.equal(empty, values["context.slot_mapping"] == -1)
    assert (values["positions"][empty] == 0).all()
    assert not (drawn(*decode(), *rest(), tokens=80)["context.seqused_k"] == 0).any()


def sequences_of(values):
    q, k = (values[f"context.cu_seqlens_{of}"].tolist() for of in "qk")
    return list(zip(q, q[1:], k, k[1:], strict=False))


@pytest.mark.parametrize("cached", [0, 100])
def test_prefill_sequences_fill_pages_of_their_own(drawn, cached):
    values = drawn(*prefill(cached=cached), *rest())
    keys, slots = values["context.key_slots"], values["context.slot_mapping"]
    assert keys.unique().numel() == 20 + cached
    pages = []
    for q, q_end, k, k_end in sequences_of(values):
        own = keys[k:k_end]
        assert torch.equal(own % PAGE, torch.arange(k_end - k) % PAGE)
        assert (own[:-1] // PAGE == own[1:] // PAGE)[(own[:-1] % PAGE) != PAGE - 1].all()
        assert torch.equal(slots[q:q_end], own[len(own) - (q_end - q):])
        assert torch.equal(values["positions"][q:q_end], torch.arange(k_end - k - (q_end - q), k_end - k))
        pages.append(set((own // PAGE).tolist()))
    assert sum(map(len, pages)) == len(set.union(*pages))


def test_prompts_without_cached_keys_need_no_key_slots(drawn):
    values = drawn(*prefill(keys=False), *rest(pages=64))
    slots = values["context.slot_mapping"]
    assert slots.unique().numel() == 20
    assert slots.max() < 64 * PAGE
    for q, q_end, _, _ in sequences_of(values):
        assert torch.equal(slots[q:q_end] % PAGE, torch.arange(q_end - q) % PAGE)


def test_a_mixed_batch_has_the_decoding_sequences_first_and_no_common_page(drawn):
    first = [spec if spec.name != "context.block_table" else InputSpec(
        spec.name, "block_table", (4, 4), "int32", {"pages": 20}) for spec in decode()]
    first[1] = InputSpec("context.seqused_k", "seqused_k", (4,), "int32", {"max": 64})
    values = drawn(*first, *prefill(cached=40, first=20), *rest("tokens+4"))
    slots = values["context.slot_mapping"]
    assert slots.shape == values["positions"].shape == (24,)
    assert slots.unique().numel() == 24
    assert (slots[:4] < 20 * PAGE).all()
    assert (slots[4:] >= 20 * PAGE).all()
    assert torch.equal(values["positions"][:4], values["context.seqused_k"].long() - 1)


def test_too_few_pages_are_an_error(drawn):
    with pytest.raises(ValueError, match=r"input context.key_slots: 84 different values below 64 are asked for"):
        drawn(*prefill(cached=1300), *rest())


def test_flat_inputs_become_arguments_and_a_context(drawn):
    arguments, context = split(drawn(*prefill(), *rest()))
    assert set(arguments) == {"positions"}
    assert context is not None
    batch = context.metadata
    assert (batch.num_decodes, batch.max_seqlen_k, batch.block_table.shape) == (0, 0, (0, 1))
    assert batch.prefill is not None
    assert batch.prefill.max_seqlen_k == 20
    assert len(context.kv_cache("any.layer")) == 2
    assert split({"x": 1}) == ({"x": 1}, None)


@pytest.mark.parametrize(("change", "message"), [
    (lambda v: v.pop("context.slot_mapping"), "context.slot_mapping: missing"),
    (lambda v: v.pop("context.max_seqlen_q"), "context.max_seqlen_q: missing; cu_seqlens_q needs it"),
    (lambda v: v.update({"context.pages": 3}), "context.pages is not one of slot_mapping, "),
])
def test_a_context_that_is_none_is_an_error(drawn, change, message):
    values = drawn(*prefill(), *rest())
    change(values)
    with pytest.raises(ValueError, match=f"^{message}"):
        split(values)


def routed(hidden=64, **args):
    return InputSpec("x", "routed", ("tokens", hidden), "bfloat16", {"gate": "weight", "top_k": 2, **args})


@pytest.mark.parametrize("hard", ["normal", "tiny", "mixed-gentle", "ties", "zeros"])
def test_a_routers_choice_is_no_matter_of_rounding(scenario_of, hard):
    gate = Linear(64, 8, dtype=torch.bfloat16)
    x = make_inputs(scenario_of(routed(), tokens=50), Draw("d", 50, 3, hard), CPU, gate)["x"]
    logits = x.double() @ gate.weight.detach().double().T
    scale = x.double().square().mean(1).sqrt()
    ordered = logits.sort(dim=1, descending=True).values
    margin = (ordered[:, 1] - ordered[:, 2]) / scale.clamp(min=1e-12)
    assert (margin[scale > 0] > 0.5).all()
    assert (scale == 0).sum() == (25 if hard == "zeros" else 0)
    counts = logits[scale > 0].topk(2, dim=1).indices.flatten().bincount(minlength=8)
    assert (counts > 0).all()


@pytest.mark.parametrize("rank", ["best", "sum of two scores"])
def test_groups_decide_where_a_router_has_them(scenario_of, rank):
    """Ranked either way the chosen groups are clear, and the best experts of all are not those of the chosen groups."""
    gate = Linear(64, 16, dtype=torch.float32)
    spec = routed(top_k=4, groups=4, top_groups=2)
    x = make_inputs(scenario_of(spec, tokens=30), Draw("d", 30, 3, "normal"), CPU, gate)["x"]
    logits = (x.float() @ gate.weight.detach().T).view(30, 4, 4)
    ranks = logits.amax(2) if rank == "best" else logits.sigmoid().topk(2, dim=2).values.sum(2)
    ordered = ranks.sort(dim=1, descending=True)
    assert (ordered.values[:, 1] - ordered.values[:, 2] > 0.4).all()
    kept = torch.zeros(30, 4, dtype=torch.bool).scatter_(1, ordered.indices[:, :2], True)
    within = logits.masked_fill(~kept.unsqueeze(2), -torch.inf).flatten(1).sort(dim=1, descending=True)
    assert (within.values[:, 3] - within.values[:, 4] > 1.9).all()
    counts = [row.bincount(minlength=4).tolist() for row in within.indices[:, :4] // 4]
    assert all(sorted(row) == [0, 0, 2, 2] for row in counts)
    anywhere = logits.flatten(1).topk(4, dim=1).indices // 4
    assert all(sorted(row.bincount(minlength=4).tolist()) == [1, 1, 1, 1] for row in anywhere)


@pytest.mark.parametrize("groups", [{}, {"groups": 4, "top_groups": 2}])
def test_a_correction_bias_decides_by_a_margin(scenario_of, groups):
    """Many rows would have another expert without it, and none is a matter of rounding."""
    torch.manual_seed(3)
    gate = Linear(512, 32, dtype=torch.bfloat16)  # as wide beside its experts as models' routers
    gate.register_parameter("e_score_correction_bias", torch.nn.Parameter(torch.randn(32) * 0.02))
    spec = routed(512, top_k=4, least=1.0, **groups)
    x = make_inputs(scenario_of(spec, tokens=40), Draw("d", 40, 3, "normal"), CPU, gate)["x"]
    scores = (x.double() @ gate.weight.detach().double().T).sigmoid()
    choice = scores + gate.e_score_correction_bias.detach()
    if groups:
        ranks = choice.view(40, 4, 8).topk(2, dim=2).values.sum(2)
        kept = torch.zeros(40, 4, dtype=torch.bool).scatter_(1, ranks.topk(2, dim=1).indices, True)
        scores, choice = (x.masked_fill(~kept.repeat_interleave(8, dim=1), -torch.inf) for x in (scores, choice))
    ordered = choice.sort(dim=1, descending=True)
    assert (ordered.values[:, 3] - ordered.values[:, 4] > 0.008).all()
    with_bias, without = (t.topk(4, dim=1).indices.sort(dim=1).values for t in (choice, scores))
    assert (with_bias != without).any(dim=1).sum() > 8


def test_groups_leave_margins_wide_in_layers_and_where_each_gives_one_expert(scenario_of):
    for args in ({"top_k": 2}, {"top_k": 4, "beside": "h", "margin": 6.0}, {"top_k": 8, "top_groups": 4}):
        hidden = InputSpec("h", "normal", ("tokens", 64), "float32")
        spec = routed(**{"groups": 4, "top_groups": 2, **args})
        gate = Linear(64, 16, dtype=torch.float32)
        values = make_inputs(scenario_of(hidden, spec, tokens=30), Draw("d", 30, 3, "normal"), CPU, gate)
        total = values["x"].float() + (values["h"] if "beside" in args else 0.0)
        ordered = (total @ gate.weight.detach().T).sort(dim=1, descending=True).values
        assert (ordered[:, args["top_k"] - 1] - ordered[:, args["top_k"]] > 1.5).all()


def test_a_router_weight_that_is_not_there_is_named(scenario_of):
    with pytest.raises(ValueError, match=r"input x: gate: the module has no weight 'gate\.weight'; it has weight"):
        make_inputs(scenario_of(routed(gate="gate.weight")), Draw("d", 5, 1, "normal"), CPU, Linear(64, 8))


def test_router_logits_have_a_clear_choice(drawn):
    logits = drawn(InputSpec("x", "router_logits", ("tokens", 16), "bfloat16", {"top_k": 3}))["x"].float()
    ordered = logits.sort(dim=1, descending=True).values
    assert (ordered[:, 2] - ordered[:, 3] >= 2).all()


@pytest.mark.parametrize("groups", [{}, {"groups": 4, "top_groups": 2}])
def test_a_correction_bias_decides_about_given_logits(drawn, groups):
    args = {"top_k": 4, "correction": "e_score_correction_bias", **groups}
    values = drawn(InputSpec("e_score_correction_bias", "correction_bias", (64,), "float32"),
                   InputSpec("x", "router_logits", ("tokens", 64), "bfloat16", args))
    router = GroupedTopk(4, True, groups.get("groups", 0), groups.get("top_groups", 0), "sigmoid")
    logits, bias = values["x"].double(), values["e_score_correction_bias"]
    chosen, without = (router.forward_native(logits, b)[1].sort(dim=1).values for b in (bias, None))
    assert (chosen != without).any(dim=1).double().mean() > 0.5
    shaken = logits + 0.01 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).double().clamp(-2, 2)
    assert torch.equal(router.forward_native(shaken, bias)[1].sort(dim=1).values, chosen)


@pytest.mark.parametrize("hard", ["normal", "ties"])
def test_rows_by_expert_are_those_of_one_choice(drawn, hard):
    choice = {"experts": 6, "top_k": 2}
    order = {**choice, "block_size": 16}
    values = drawn(
        InputSpec("ids", "topk_ids", ("tokens", 2), "int32", {"experts": 6}),
        InputSpec("owners", "expert_choices", ("2*tokens",), "int32", choice),
        InputSpec("rows", "sorted_token_ids", ("2*tokens+96",), "int32", order),
        InputSpec("blocks", "block_experts", ("2*tokens+6",), "int32", order),
        InputSpec("padded", "padded_rows", (1,), "int32", order), hard=hard,
    )  # fmt: skip
    ids = values["ids"]
    assert all(len(set(row)) == 2 for row in ids.tolist())
    assert torch.equal(values["owners"], ids.flatten())
    assert len(ids.unique(dim=0)) == 1 if hard == "ties" else len(ids.unique(dim=0)) > 5
    rows, blocks, padded = MoeAlignBlockSize(6)(ids, 16)
    used = int(padded)
    assert int(values["padded"]) == used
    assert torch.equal(values["rows"][:used], rows[:used])
    assert torch.equal(values["blocks"][:used // 16], blocks[:used // 16])
    assert values["rows"].shape == rows.shape
    assert values["blocks"].shape == blocks.shape


def test_the_residual_of_a_layer_outdoes_what_is_added_to_it(scenario_of):
    gate = Linear(64, 8, dtype=torch.float32)
    hidden = InputSpec("hidden", "normal", ("tokens", 64), "float32")
    spec = routed(least=2.0, beside="hidden", margin=6.0)
    for hard in ("normal", "tiny", "zeros"):
        values = make_inputs(scenario_of(hidden, spec, tokens=50), Draw("d", 50, 3, hard), CPU, gate)
        total = values["x"].float() + values["hidden"]
        ordered = (total @ gate.weight.detach().T).sort(dim=1, descending=True).values
        assert (ordered[:, 1] - ordered[:, 2] > 15.9).all()
