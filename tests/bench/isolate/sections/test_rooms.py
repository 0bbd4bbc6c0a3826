"""Rooms, fresh inputs and links: what both sides of a timed section work on. The same code runs on CUDA."""

import json
import os

import pytest
import torch
from results_by_hand import rms_norm

from fastkernels.bench.grade import Draw, make_inputs
from fastkernels.bench.isolate.arena import Arena, open_memory
from fastkernels.bench.isolate.files import create_file
from fastkernels.bench.isolate.sections.fresh import FreshInputs, is_rows, stays_as_drawn
from fastkernels.bench.isolate.sections.link import add_link, first_float, linked_input
from fastkernels.bench.isolate.sections.room import Layout, Room, plan
from fastkernels.manifest import load_manifest

CPU = torch.device("cpu")
SETS = 6


@pytest.fixture
def arenas():
    fds = [create_file(), create_file()]
    yield [Arena(open_memory(CPU, fd)) for fd in fds]
    for fd in fds:
        os.close(fd)


def drawer(scenario):
    seeds = iter(range(1, 10**6))
    return lambda tokens: make_inputs(scenario, Draw("timed", tokens, next(seeds), "normal"), CPU)


def rooms_of(scenario, arenas, written=()):
    draw = drawer(scenario)
    layout = plan({}, 1, draw(scenario.tokens), SETS, narrow=False)
    layout = Layout.from_dict(json.loads(json.dumps(layout.to_dict())))
    for arena in arenas:
        arena.reserve(layout.size)
    rooms = [Room(arena, layout) for arena in arenas]
    return rooms, FreshInputs(scenario, draw, rooms, written)


def of(op, model, tokens, **more):
    return next(s for s in load_manifest().scenarios() if (s.op, s.model, s.tp, s.tokens) == (op, model, 1, tokens)
                and all(getattr(s, key) == value for key, value in more.items()))


SCENARIOS = {
    "rows": lambda: rms_norm(tokens=3), "rows with a residual": lambda: rms_norm(tokens=2, residual=True),
    "ids": lambda: of("embedding", "llama32-1b", 8), "positions": lambda: of("rotary_emb", "llama32-1b", 8),
    "sequences": lambda: of("flash_attn_decode", "llama32-1b", 1),
    "slots": lambda: of("store_kvcache", "llama32-1b", 1), "routed": lambda: of("topk_softmax", "mixtral-8x7b", 8),
    "integers": lambda: of("moe_align", "mixtral-8x7b", 32),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_set_of_every_round_has_values_of_its_own_and_both_rooms_the_same(arenas, name):
    scenario = SCENARIOS[name]()
    rooms, fresh = rooms_of(scenario, arenas)
    seen = []
    for _ in range(3):
        fresh.renew()
        fresh.hand_over()
        for slot in rooms[0].layout.inputs:
            assert torch.equal(*(room.stack(slot.name) for room in rooms))
        for number in range(SETS):
            values = rooms[1].set_of(number)
            assert list(values) == [spec.name for spec in scenario.inputs]
            seen.append(tuple(value.float().sum().item() if value.is_floating_point() else str(value.tolist())
                              for value in values.values() if isinstance(value, torch.Tensor)))
    assert len(set(seen)) == 3 * SETS, "two calls of different rounds or sets have the same inputs"


def test_a_draw_of_many_rows_is_many_calls_only_where_rows_stand_alone():
    assert [is_rows(SCENARIOS[name]()) for name in SCENARIOS] == [True, True, True, True, False, False, True, False]
    assert stays_as_drawn(SCENARIOS["integers"]())
    assert not stays_as_drawn(SCENARIOS["sequences"]())


def test_what_calls_have_written_over_is_given_back(arenas):
    rooms, fresh = rooms_of(rms_norm(tokens=2, residual=True), arenas, written=["residual"])
    fresh.renew()
    drawn = rooms[0].stack("residual").clone()
    rooms[0].stack("residual").fill_(7)
    fresh.hand_over()
    assert torch.equal(rooms[1].stack("residual"), drawn), "the other side is given what the first one has written"
    fresh.restore(rooms[0])
    assert torch.equal(rooms[0].stack("residual"), drawn)
    rooms[0].stack("residual").fill_(7)
    assert torch.equal(fresh.before(4)["residual"], drawn[4])


def test_sets_and_copies_lie_apart(arenas):
    weights = {"weight": torch.arange(5.0), "bias": torch.zeros(3)}
    layout = plan(weights, 2, {"x": torch.zeros(2, 3), "flag": True}, 4, narrow=True)
    arenas[0].reserve(layout.size)
    room = Room(arenas[0], Layout.from_dict(layout.to_dict()))
    room.words().zero_()
    for number in range(4):
        room.set_of(number)["x"].fill_(number + 1)
    for copy in range(2):
        room.weights_of(copy)["weight"].fill_(10 + copy)
    assert [room.set_of(number)["x"].unique().item() for number in range(4)] == [1, 2, 3, 4]
    assert room.stack("x")[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert [room.weights_of(copy)["weight"].unique().item() for copy in range(2)] == [10, 11]
    assert room.weights_of(1)["bias"].tolist() == [0, 0, 0]
    assert room.set_of(0)["flag"] is True
    assert room.layout.narrow


def test_a_link_adds_part_of_an_output_to_the_next_input():
    x, y = torch.ones(3, 4), torch.arange(8.0).view(2, 4)
    add_link(x, y, narrow=False)
    assert x[0].tolist() == [1.0, 1.5, 2.0, 2.5]
    assert x[1:].eq(1).all()
    add_link(x, y + 2, narrow=True)
    assert x[0].tolist() == [2.0, 1.5, 2.0, 2.5]
    wide = torch.ones(2, 2)
    add_link(wide, torch.full((2, 3, 5), 2.0), narrow=False)
    assert wide.tolist() == [[2.0, 2.0], [1.0, 1.0]]
    heads = torch.zeros(2, 3, 2)
    add_link(heads, torch.full((2, 3, 2), 2.0).transpose(1, 2).contiguous().transpose(1, 2), narrow=False)
    assert heads[0].eq(1).all()
    assert heads[1].eq(0).all()


def test_what_links_calls_is_the_first_of_floats():
    inputs = {"ids": torch.zeros(3, dtype=torch.int64), "slices": torch.zeros(4, 2).t(), "x": torch.zeros(2, 2)}
    assert linked_input(inputs) == "x"
    assert linked_input({"ids": inputs["ids"]}) is None
    output = (None, [torch.zeros(2, dtype=torch.int32), torch.ones(2)])
    assert first_float(output).eq(1).all()
    assert first_float(None) is None
