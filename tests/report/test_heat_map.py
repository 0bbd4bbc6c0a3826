"""Heat maps: cells, rows, columns, means and colours."""

import math
from dataclasses import replace

import pytest

from fastkernels.report import palette
from fastkernels.report.heat_map import geometric_mean, heat_maps, speedup_of
from fastkernels.results import LeftOut, Noise, Verdict


def only(maps):
    assert len(maps) == 1
    return maps[0]


def cells(heat_map):
    return {(label, count): cell for label, row in heat_map.rows for count, cell in
            zip(heat_map.tokens, row, strict=True)}


def test_rows_are_models_by_tp_and_columns_are_rising_tokens(graded):
    found = only(heat_maps([graded(model=model, tp=tp, tokens=tokens)
                            for model in ("zeta", "alpha") for tp in (8, 1) for tokens in (512, 1)]))
    assert found.tokens == (1, 512)
    assert [label for label, _ in found.rows] == ["zeta tp1", "zeta tp8", "alpha tp1", "alpha tp8"]


def test_a_cell_holds_the_speedup_and_says_interval_times_and_errors(graded):
    cell = cells(only(heat_maps([graded(tokens=8, speedup=2.0)])))["llama31-8b tp1", 8]
    assert (cell.text, cell.verdict) == ("2.00", "")
    for words in ("llama31-8b tp1, 8 tokens", "2.00x [1.94, 2.04]", "baseline 2.05 µs", "candidate 1.02 µs",
                  "error ratio 0.246"):
        assert words in cell.title


def test_variants_and_levels_have_maps_of_their_own_beside_each_other(graded):
    results = [graded(), graded("silu_and_mul"), graded(variant="residual"), graded(level=2)]
    assert [(m.op, m.level, m.variant) for m in heat_maps(results)] == [
        ("rms_norm", 1, ""), ("rms_norm", 1, "residual"), ("silu_and_mul", 1, ""), ("rms_norm", 2, "")]


def test_a_failing_cell_shows_its_verdict_and_no_speedup_colour(graded):
    found = only(heat_maps([graded(verdict=Verdict.WRONG_VALUES, message="worst at (0, 3)"), graded(tokens=16)]))
    cell = cells(found)["llama31-8b tp1", 8]
    assert (cell.text, cell.style, cell.verdict) == ("", "fail", "wrong_values")
    assert "worst at (0, 3)" in cell.title
    assert found.failed == 1


def test_a_too_slow_cell_shows_speedup_and_verdict(graded):
    slow = replace(graded(speedup=0.5), verdict=Verdict.TOO_SLOW)
    cell = cells(only(heat_maps([slow])))["llama31-8b tp1", 8]
    assert (cell.text, cell.style, cell.verdict) == ("0.50", "fail", "too_slow")


def test_a_shared_shape_is_shown_like_the_graded_one(graded):
    first = graded(tp=1, speedup=2.0)
    found = cells(only(heat_maps([first, graded(tp=2, speedup=2.0, shared_with=first.id)])))
    one, other = found["llama31-8b tp1", 8], found["llama31-8b tp2", 8]
    assert (one.text, one.style) == (other.text, other.style)
    assert f"graded as {first.id}" in other.title


def test_absent_cells_say_why(graded):
    results = [graded(tp=1, tokens=8), graded(tp=2, tokens=512), graded(tp=4, tokens=8)]
    found = cells(only(heat_maps(results, [LeftOut("rms_norm[llama31-8b-tp1-s512]", "over 500 tokens"),
                                           LeftOut("no address", "none")])))
    assert found["llama31-8b tp1", 512].title == "left out: over 500 tokens"
    assert found["llama31-8b tp4", 512].title == "no such scenario in this run"
    assert found["llama31-8b tp4", 512].text == "-"


def test_a_failure_is_never_hidden_by_a_second_scenario_of_the_same_cell(graded):
    failed = graded(verdict=Verdict.CRASHED)
    for results in ([graded(), failed], [failed, graded()]):
        assert cells(only(heat_maps(results)))["llama31-8b tp1", 8].verdict == "crashed"


def test_an_untimed_pass_shows_the_word(graded):
    found = only(heat_maps([graded(timing=None, self_test=True)]))
    assert (found.speedup, found.self_test) == (None, True)
    cell = cells(found)["llama31-8b tp1", 8]
    assert (cell.text, cell.style) == ("pass", "h0")
    assert "self-test passed" in cell.title


@pytest.mark.parametrize(("low", "high", "sure"), [(1.01, 1.3, True), (0.7, 0.99, True), (0.99, 1.01, False)])
def test_bold_where_the_interval_leaves_out_one(graded, low, high, sure):
    result = graded()
    result = replace(result, timing=replace(result.timing, speedup_low=low, speedup_high=high))
    assert ("sure" in cells(only(heat_maps([result])))["llama31-8b tp1", 8].style) is sure


def test_means_are_geometric_and_over_the_timed(graded):
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None
    assert geometric_mean([math.nan, 0.0, math.inf, 3.0]) == pytest.approx(3.0)
    timed = [graded(tokens=1, speedup=0.5), graded(tokens=2, speedup=2.0), graded(tokens=4, verdict=Verdict.HUNG)]
    assert speedup_of(timed) == pytest.approx(1.0)
    assert only(heat_maps(timed)).speedup == pytest.approx(1.0)


def test_the_scale_is_symmetric_in_the_logarithm():
    for step, edge in enumerate(palette.EDGES, 1):
        assert palette.heat_class(edge * 1.001) == f"f{step}"
        assert palette.heat_class(1 / (edge * 1.001)) == f"s{step}"
    assert palette.heat_class(1.0) == palette.heat_class(1.02) == palette.heat_class(0.98) == "h0"
    assert palette.heat_class(math.nan) == palette.heat_class(0.0) == "h0"
    assert palette.heat_class(math.inf) == "f5"


def test_the_legend_names_every_colour_once():
    names = [name for name, _ in palette.legend()]
    assert names == ["s5", "s4", "s3", "s2", "s1", "h0", "f1", "f2", "f3", "f4", "f5"]
    assert dict(palette.legend())["s3"] == "≤ 0.71"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_can_be_read_in_both_themes(theme):
    colours = palette.THEMES[theme]
    assert palette.contrast("#000000", "#ffffff") == pytest.approx(21)
    for ink in ("ink", "muted", "bad", "good", "link"):
        for background in ("surface", "raised"):
            assert palette.contrast(colours[ink], colours[background]) >= 4.5, (ink, background)
    assert palette.contrast(colours["bad"], colours["bad-surface"]) >= 4.5
    for mark in ("baseline", "candidate", "axis"):
        assert palette.contrast(colours[mark], colours["surface"]) >= 3, mark


def test_both_themes_define_the_same_variables():
    assert list(palette.THEMES["light"]) == list(palette.THEMES["dark"])


def test_a_noisy_cell_says_so_and_no_mean_counts_it(graded):
    untimed = replace(graded(tokens=8), timing=None, noise=Noise("other load disturbed 9 of 12 rounds"))
    (found,) = heat_maps([untimed, graded(tokens=32, speedup=2.0)])
    cell = found.rows[0][1][0]
    assert (cell.text, cell.style) == ("noisy", "h0 noisy")
    assert "noisy: other load disturbed 9 of 12 rounds" in cell.title
    assert found.speedup == pytest.approx(2.0)
