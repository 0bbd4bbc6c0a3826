"""The plots: their data, and SVG that is deterministic, self-contained and fit for both themes."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib
import pytest

from fastkernels.report import errors_plot, palette, plots, roofline, samples_plot, svg
from fastkernels.results import Verdict

SVG = "{http://www.w3.org/2000/svg}"


def timed(result, **changes):
    return replace(result, timing=replace(result.timing, **changes))


def with_ratio(result, ratio, **changes):
    return replace(result, correctness=replace(result.correctness, max_error_ratio=ratio), **changes)


def texts(plot):
    return " | ".join("".join(node.itertext()) for node in ET.fromstring(plot).iter(f"{SVG}text"))


def marks(plot, tone):
    """Markers drawn in a colour."""
    return sum(len(group.findall(f"{SVG}use")) for group in ET.fromstring(plot).iter(f"{SVG}g")
               if f"var(--{tone})" in group.get("style", ""))


def test_a_run_gives_every_plot_that_it_has_data_for(small_run, run_of, graded):
    assert list(plots(small_run)) == ["roofline.svg", "error-ratios.svg", "samples.svg"]
    untimed = run_of(graded(timing=None))
    assert list(plots(untimed)) == ["error-ratios.svg"]
    assert plots(run_of(graded(verdict=Verdict.IMPORT_ERROR, correctness=None))) == {}


def test_equal_runs_give_equal_plots_whatever_the_users_settings(small_run):
    first = plots(small_run)
    with matplotlib.rc_context({"lines.linewidth": 9, "figure.dpi": 300, "axes.facecolor": "red", "font.size": 30}):
        assert plots(small_run) == first
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_pyplot_stays_out():
    code = ("import sys\nfrom fastkernels.report import svg\nfrom fastkernels.report.svg import drawing, new_figure\n"
            "with drawing('a'):\n    svg.render(new_figure(10, 10), 'a')\nsys.exit('matplotlib.pyplot' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_report_is_cheap():
    code = ("import sys, fastkernels.report\n"
            "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jinja2', 'numpy', 'pydantic')))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plot_is_xml_with_colours_of_both_themes_and_nothing_from_outside(small_run):
    for plot in plots(small_run).values():
        root = ET.fromstring(plot)
        style = root.find(f"{SVG}style").text
        for theme in palette.THEMES:
            assert palette.variables(theme) in style
        assert "prefers-color-scheme: dark" in style
        body = plot.partition("</style>")[2]
        used = set(re.findall(r"var\(--([a-z-]+)\)", body))
        assert {"surface", "ink", "grid"} <= used <= set(palette.THEMES["light"])
        assert not re.search("#[0-9a-f]{6}", body.replace("#000000", "")), "a colour of no theme"
        assert re.findall("https?://[^\"]*", plot) == ["http://www.w3.org/2000/svg"]
        assert root.find(f"{SVG}title").text


def test_ids_of_different_plots_differ(small_run):
    ids = [set(re.findall(' id="([^"]*)"', plot)) for plot in plots(small_run).values()]
    assert all(ids)
    assert not ids[0] & ids[1]
    assert not ids[1] & ids[2]


@pytest.mark.parametrize("name", ["$x^2$ $\\frac$", "<b>&amp;\"", "算子🚀", "a\x00b\x1b[31m\ud800",
                                  "#010001 --> 1.23456"])
def test_names_are_drawn_as_they_are(graded, run_of, name):
    drawn = plots(run_of(graded(name, tokens=8), graded(name, model=name, tokens=16)))
    for plot in drawn.values():
        assert svg.clean(name) in texts(plot)
        plot.encode()


def test_the_roof_is_read_off_the_results(graded):
    memory, arithmetic = graded("linear", tokens=1).timing, graded("linear", tokens=8192).timing
    roof = roofline.roof_of([memory, arithmetic])
    assert roof.bandwidth_bytes_s == pytest.approx(4e12)
    assert roof.flops_s == (pytest.approx(7e14),)
    assert roof.at(1.0, 7e14) == pytest.approx(4e12)
    assert roof.at(1e6, 7e14) == pytest.approx(7e14)


def test_the_roof_of_two_dtypes_has_two_rates(graded):
    slow = replace(graded("linear", tokens=8192).timing, roofline_s=graded("linear", tokens=8192).timing.flops / 1e14)
    roof = roofline.roof_of([graded("linear", tokens=1).timing, graded("linear", tokens=8192).timing, slow])
    assert roof.flops_s == (pytest.approx(1e14), pytest.approx(7e14))


def test_no_bandwidth_is_claimed_where_arithmetic_holds_everything_back(graded):
    roof = roofline.roof_of([graded("linear", tokens=8192).timing])
    assert (roof.bandwidth_bytes_s, roof.flops_s) == (None, (pytest.approx(7e14),))
    only_memory = roofline.roof_of([graded(tokens=8).timing])
    assert (only_memory.bandwidth_bytes_s, only_memory.flops_s) == (pytest.approx(4e12), ())
    assert roofline.roof_of([]).bandwidth_bytes_s is None


def test_panels_by_the_operations_of_the_operator(graded):
    results = [graded(tokens=8), graded("linear", tokens=512), graded(tokens=64)]
    norm, linear = roofline.panels(results)
    assert (norm.op, norm.has_flops, norm.shapes) == ("rms_norm", False, 2)
    t = results[0].timing
    assert norm.candidate[0] == (pytest.approx(math.log10(t.bytes)),
                                 pytest.approx(math.log10(t.roofline_s / t.candidate_s)))
    t = results[1].timing
    assert linear.has_flops
    assert linear.baseline == ((pytest.approx(math.log10(t.flops / t.bytes)),
                                pytest.approx(math.log10(t.flops / t.baseline_s))),)


def test_equal_shapes_are_one_point_and_near_ones_are_thinned(graded):
    assert roofline.panels([graded(), graded(model="twin")])[0].shapes == 1
    near = [timed(graded(), bytes=10**6 + i) for i in range(50)]
    panel = roofline.panels([replace(result, shape_key=str(i)) for i, result in enumerate(near)])[0]
    assert (panel.shapes, len(panel.baseline)) == (50, 1)


def test_the_roofline_plot_shows_both_sides_and_names_the_peaks(small_run):
    drawn = plots(small_run)["roofline.svg"]
    assert marks(drawn, "baseline") > 10
    assert marks(drawn, "candidate") > 10
    for words in ("Example GPU", "baseline", "candidate", "roofline (4 TB/s, 700 TFLOP/s)", "rms_norm", "FLOP per byte",
                  "least bytes moved", "share of the roofline", "100 %"):
        assert words in texts(drawn)


def test_many_operators_leave_a_note(graded):
    drawn = roofline.draw([graded(f"op{i:02}") for i in range(20)], "H200")
    assert "2 more operators not drawn" in texts(drawn)
    assert "op17" in texts(drawn)
    assert "op18" not in texts(drawn)


def test_error_ratios_are_counted_with_zero_infinite_and_undefined_apart(graded):
    wrong = {"verdict": Verdict.WRONG_VALUES, "timing": None}
    results = [with_ratio(graded(), value) for value in (0.0, 0.5, 0.5)]
    results += [with_ratio(graded(), value, **wrong) for value in (3.0, math.inf, math.nan, math.nan)]
    row, = errors_plot.error_rows([*results, graded(correctness=None)])
    half, three = (math.floor(math.log10(value) * errors_plot.PER_DECADE) for value in (0.5, 3.0))
    assert (row.passed, row.failed, row.zero, row.undefined) == ({half: 2}, {three: 1}, 1, (1, 2))
    assert math.isnan(row.largest)
    drawn = errors_plot.draw(results)
    for words in ("1 at 0", "1 inf, 2 NaN", "largest NaN", "limit 1"):
        assert words in texts(drawn)
    assert marks(drawn, "bad") == 1


def test_ratios_beyond_the_axis_stand_at_its_edge(graded):
    row, = errors_plot.error_rows([with_ratio(graded(), 1e-30), with_ratio(graded(), 1e30)])
    bins = sorted(row.passed)
    assert bins == [errors_plot.LOWEST * errors_plot.PER_DECADE, errors_plot.HIGHEST * errors_plot.PER_DECADE - 1]
    assert errors_plot.draw([with_ratio(graded(), 1e30)])


def test_samples_of_the_median_and_the_least_speedup_are_chosen(graded):
    results = [graded(tokens=tokens, speedup=speedup) for tokens, speedup in ((1, 3.0), (2, 0.5), (4, 1.2))]
    results += [graded("linear", speedup=2.0), graded("linear", model="twin", speedup=2.0)]
    rows = samples_plot.sample_rows(results)
    assert [(row.op, row.place, row.timing.speedup) for row in rows] == [
        ("rms_norm", "median", 1.2), ("rms_norm", "slowest", 0.5), ("linear", "only", 2.0)]


def test_samples_are_relative_to_the_baselines_median(graded):
    result = timed(graded(), baseline_samples_s=(1e-6, 2e-6, 4e-6), candidate_samples_s=(0.5e-6, 1e-6, 1e-6))
    row, = samples_plot.sample_rows([result])
    assert row.baseline.points == (-1.0, 0.0, 1.0)
    assert row.candidate.points == (-2.0, -1.0, -1.0)
    assert row.baseline.box[1] == 0.0


def test_samples_are_thinned_with_both_ends_kept():
    assert samples_plot.thinned([1.0, 2.0]) == (1.0, 2.0)
    kept = samples_plot.thinned(range(1000))
    assert len(kept) == samples_plot.MAX_POINTS
    assert (kept[0], kept[-1]) == (0, 999)
    assert list(kept) == sorted(kept)


def test_the_sample_plot_says_times_and_interval(graded, run_of):
    drawn = plots(run_of(graded(tokens=8, speedup=2.0)))["samples.svg"]
    for words in ("2.05 µs → 1.02 µs", "2.00x [1.94, 2.04]", "llama31-8b tp1, 8 tok"):
        assert words in texts(drawn)


def test_odd_numbers_stop_no_plot(graded, run_of):
    nan, inf = math.nan, math.inf
    odd = [timed(graded(tokens=1), baseline_s=nan, candidate_s=0.0, speedup=inf, roofline_s=0.0, bytes=0),
           timed(graded(tokens=2), baseline_samples_s=(nan, 0.0), candidate_samples_s=(inf,)),
           timed(graded(tokens=4), baseline_samples_s=(nan, 1e-6), candidate_samples_s=(1e-3,), speedup=nan),
           timed(graded("linear"), roofline_s=inf, speedup=-1.0)]
    assert "roofline.svg" in plots(run_of(*odd))


def test_a_plot_in_the_page_leaves_its_colours_to_the_page(small_run):
    inline = svg.inline(plots(small_run)["samples.svg"])
    assert "<style>" not in inline
    assert "xmlns" not in inline
    assert inline.startswith("<svg ")
    assert "var(--candidate)" in inline
