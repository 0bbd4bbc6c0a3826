"""The scripts on power and cost: what they count, and that a slowed copy computes what its original does."""

from collections import Counter

import pytest
import torch

from benchmarks import honesty_cost, power, slowed
from fastkernels.registry import Overlay


def graded(speedup, low, high, slower=0.0, verdict="passed"):
    return {"kind": "graded", "shape": "rms_norm[a]", "verdict": verdict, "message": "why", "slower": slower,
            "round": 0, "speedup": speedup, "speedup_low": low, "speedup_high": high}


def test_the_table_counts_intervals_without_1_and_copies_found(capsys, tmp_path):
    rows = [graded(1.0, 0.98, 1.02), graded(1.05, 1.01, 1.09), graded(0.95, 0.9, 0.99), graded(1.0, 0.99, 1.0),
            graded(0.9, 0.88, 0.92, 0.10), graded(0.95, 0.9, 1.01, 0.10, "timing_tampered")]
    power.report(rows, power.parse(["--output", str(tmp_path / "none")]))
    out = capsys.readouterr().out
    assert "| rms_norm[a] | 4 | 2 of 4 (50.0%) |" in out
    assert "| rms_norm[a] | 10% |  | 8.19% | 1 of 2 (50.0%) |" in out
    assert "verdicts other than passed: 1 of 6" in out
    assert "- rms_norm[a], slower 0.1: timing_tampered: why" in out


def test_a_slowed_copy_computes_more_rows_and_the_same_values(tmp_path):
    scenario, = power.scenarios_of(["rms_norm[llama32-1b-tp1-s128]"])
    slowed.write_copies(tmp_path, [scenario], {scenario.id: 0.1})
    with Overlay(tmp_path, "slowed_copy_of_this_test") as overlay:
        module = overlay.module("L1.rms_norm")
        copy = module.RMSNorm(2048, 1e-5, torch.bfloat16)
    rows, original = [], module._forward
    module._forward = lambda self, x: rows.append(len(x)) or original(self, x)
    x = torch.randn(128, 2048).to(torch.bfloat16)
    assert torch.equal(copy(x), original(copy, x))
    assert rows == [13, 128]
    copy(x[:64])
    assert rows == [13, 128, 64]  # other token counts have no share


def test_only_rows_can_be_slowed(tmp_path):
    scenario, = power.scenarios_of(["rms_norm[llama32-1b-tp1-s128-residual]"])
    with pytest.raises(ValueError, match="not x, residual"):
        slowed.write_copies(tmp_path, [scenario], {scenario.id: 0.1})


def test_typos_are_told(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'rms_norm"):
        power.scenarios_of(["rms_nrom[llama32-1b-tp1-s128]"])
    (tmp_path / "o").write_text("{}\n")
    with pytest.raises(ValueError, match="o:1: no row of this script"):
        power.read(tmp_path / "o")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_default_shapes_are_in_the_manifest(device):
    assert len(power.scenarios_of(power.SHAPES[device])) == 3
    assert len(honesty_cost.scenarios_of(honesty_cost.SHAPES[device])) == 8


def test_requests_are_booked_to_their_part():
    account = honesty_cost.Account()
    account.begin()
    asked = [{"do": "import"}, {"do": "prepare"}, {"do": "build"}, {"do": "draw", "index": 0}, {"do": "call"},
             {"do": "judge"}, {"do": "draw", "index": 1}, {"do": "call"}, {"do": "judge"}, {"do": "draw", "index": 0},
             {"do": "call"}, {"do": "reload"}, {"do": "draw", "index": 1}, {"do": "call"},
             {"do": "draw", "keep": True}, {"do": "keep"}, {"do": "measure"}, {"do": "replay"}, {"do": "draw"},
             {"do": "call"}, {"do": "unheard_of"}]
    parts = Counter(account.part(request) for request in asked)
    assert parts == {
        "plain: import and build": 3, "plain: one draw": 3, "further draws": 3, "the same draw again": 2,
        "new weights loaded": 3, "plain: sets of inputs": 2, "plain: warm-up and timing rounds": 1,
        "witness: N and 2N calls": 1, "call after timing": 2, "other: unheard_of": 1}
    account.begin()
    assert account.part({"do": "draw", "index": 0}) == "plain: one draw"


def test_a_round_of_timed_sections_is_split_by_what_its_answer_tells():
    account = honesty_cost.Account()
    account.begin()
    account.book({"do": "draw", "index": 0}, 0.001)
    account.book({"do": "judge"}, 0.02)
    side = {"woke_s": 0.001, "ran_s": 0.004, "seen_s": 0.0005, "check_s": 0.0005}
    account.book({"do": "round", "judge": True}, 0.1, {"baseline": side, "candidate": side})
    account.book({"do": "round", "judge": False}, 0.1, {"baseline": side, "candidate": side})
    account.book({"do": "round", "judge": True}, 0.1, {"failed": "LateError"})
    account.book({"do": "build"}, 1.0, of_runner=True)
    account.book({"do": "build"}, 2.0)
    assert account.seconds == pytest.approx({
        "plain: one draw": 0.021, "plain: timed sections": 0.02, "sections: outputs compared": 0.004,
        "sections: idle device": 0.012, "sections: drawn calls judged": 0.02, "plain: import and build": 2.0,
        "plain: sections made ready": 1.0 + 0.3 - 0.02 - 0.004 - 0.012 - 0.02})
    assert set(account.seconds) <= set(honesty_cost.WHAT)


def test_what_is_asked_of_both_sides_at_once_is_booked_to_each(monkeypatch):
    account, answers = honesty_cost.Account(), iter([{"of": "runner"}, {"of": "candidate"}])
    for name in ("ask_runner", "ask_candidate"):
        monkeypatch.setattr(honesty_cost.Workers, name, lambda workers, request: None)
    monkeypatch.setattr(honesty_cost.Workers, "runner_answer", lambda workers: next(answers))
    monkeypatch.setattr(honesty_cost.Workers, "candidate_answer", lambda workers, request, limit=None: next(answers))
    workers = honesty_cost.Workers(honesty_cost.GraderSettings(device="cpu"), "cpu")
    with honesty_cost.accounted(account):
        workers.ask_runner({"do": "build"})
        workers.ask_candidate({"do": "read_own_clock"})
        assert workers.runner_answer() == {"of": "runner"}
        assert workers.candidate_answer({"do": "read_own_clock"}, 1.0) == {"of": "candidate"}
    assert set(account.seconds) == {"plain: sections made ready", "plain: own clocks"}


def test_the_share_is_of_the_plain_parts(capsys):
    honesty_cost.report(Counter({"plain: one draw": 1.0, "plain: timing": 3.0, "witness": 1.0}), 6.0, 2)
    out = capsys.readouterr().out
    assert "| witness | 0.500 | 25.0% |" in out
    assert "| **the honest checks add** (supervisor included) | 1.000 | 50.0% |" in out
