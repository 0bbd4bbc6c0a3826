"""The page in a real browser: no request leaves it, nothing overflows, everything can be read in both themes."""

from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from fastkernels.report import NamedRun, document, page, palette, plots
from fastkernels.results import Verdict

pytestmark = pytest.mark.browser
WIDE, PHONE = 1280, 390
MAX_PICTURE_BYTES = 300_000
"""Size that the pictures of docs/report.md stay under."""

CONTRASTS = """selector => {
  const channel = part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const luminance = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(part => channel(part / 255))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    const colour = getComputedStyle(node).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? (node.parentElement ? ground(node.parentElement) : "rgb(255, 255, 255)")
      : colour;
  };
  return [...document.querySelectorAll(selector)].map(node => {
    const [dark, light] = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((a, b) => a - b);
    return [node.className, (light + 0.05) / (dark + 0.05)];
  });
}"""
"""WCAG contrast of each node's text against the background that it stands on."""


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a text as a file; no request but for that file is let through, and none may be made."""

    @contextmanager
    def open_page(text, width=WIDE, scheme="light", name="report.html"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        requests, complaints = [], []
        context.route("**/*", lambda route: route.continue_() if route.request.url == path.as_uri() else route.abort())
        try:
            tab = context.new_page()
            tab.on("request", lambda request: requests.append(request.url))
            tab.on("console", lambda message: complaints.append(message.text))
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.goto(path.as_uri())
            yield tab
            assert requests == [path.as_uri()]
            assert complaints == []
        finally:
            context.close()

    return open_page


def picture(part, path):
    """A picture of a whole page, or of one part of it, in 64 colours."""
    taken = part.screenshot(full_page=True) if hasattr(part, "goto") else part.screenshot()
    image = Image.open(BytesIO(taken)).convert("RGB")
    image.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MAX_PICTURE_BYTES


@pytest.fixture(scope="module")
def small_page(small_run):
    return page([NamedRun("bench/results/kernels.json", small_run)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_both_themes(opened, small_page, screenshots, scheme):
    with opened(small_page, scheme=scheme) as tab:
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        surface = palette.THEMES[scheme]["surface"]
        assert background == "rgb({}, {}, {})".format(*(int(surface[i:i + 2], 16) for i in (1, 3, 5)))
        for words in ("29 of 141 scenarios failed", "Speedup by model, TP degree and tokens", "Roofline",
                      "Error ratios", "Samples", "29 scenarios; scenarios that differ", "L1.embedding",
                      "What the kernels reach of what Example GPU can do", "kernels/L1/rms_norm.py"):
            assert tab.get_by_text(words).first.is_visible(), words
        picture(tab, screenshots / f"report-{scheme}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_heat_map_colour_can_be_read(opened, graded, run_of, scheme):
    speedups = [factor for edge in palette.EDGES for factor in (edge * 1.01, 1 / (edge * 1.01))]
    results = [graded(tokens=i + 1, speedup=speedup) for i, speedup in enumerate([1.0, *speedups])]
    results.append(graded(tokens=99, verdict=Verdict.OUT_OF_BOUNDS_WRITE))
    with opened(page([NamedRun("a", run_of(*results))]), scheme=scheme) as tab:
        cells = tab.evaluate(CONTRASTS, ".heat td, .heat td b, .legend li")
        assert len({name.split()[0] for name, _ in cells if name}) >= 12
        assert [cell for cell in cells if cell[1] < 4.5] == []
        texts = tab.evaluate(CONTRASTS, "p, dt, dd, th, td, h1, h2, h3, a, small, summary, .verdict, code, figcaption")
        assert [text for text in texts if text[1] < 4.5] == []


def test_failing_cells_carry_their_verdict_in_words(opened, small_page):
    with opened(small_page) as tab:
        words = tab.locator(".heat td.fail").all_inner_texts()
        assert len(words) == 29
        assert {word.split()[-1] for word in words} == {"wrong_values", "crashed", "wrong_nonfinite", "too_slow"}


def test_on_a_phone_only_boxes_scroll(opened, small_page, screenshots):
    with opened(small_page, width=PHONE) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert tab.evaluate("innerWidth") == PHONE
        boxes = tab.evaluate("[...document.querySelectorAll('.scroll')].map(box => box.scrollWidth > box.clientWidth)")
        assert sum(boxes) <= 3, "plots alone"
        cut = tab.evaluate("""[...document.querySelectorAll("table th, table td, table b")]
          .filter(cell => cell.offsetParent && cell.getBoundingClientRect().right > innerWidth
                          && getComputedStyle(cell.closest("thead") || cell).position !== "absolute")
          .map(cell => cell.textContent)""")
        assert cut == []
        assert tab.evaluate("getComputedStyle(document.querySelector('.heat td'), '::before').content") == '"1"'
        tab.evaluate("document.querySelectorAll('details:not(.op)').forEach(part => { part.open = false; })")
        picture(tab, screenshots / "report-phone.png")


def test_the_first_column_stays_while_a_table_scrolls(opened, graded, run_of):
    with opened(page([NamedRun("a", run_of(*(graded(tokens=tokens) for tokens in range(1, 30))))])) as tab:
        place = tab.evaluate("""() => {
          const box = document.querySelector(".maps .scroll"), head = box.querySelector("tbody th");
          box.scrollLeft = 150;
          return [box.scrollLeft, head.getBoundingClientRect().left - box.getBoundingClientRect().left];
        }""")
        assert place[0] > 50
        assert place[1] == pytest.approx(0, abs=3)


def test_hover_and_arrow_keys_describe_cells(opened, graded, run_of):
    run = run_of(*(graded(tokens=tokens, tp=tp, speedup=tokens * tp) for tokens in (1, 2, 3) for tp in (1, 2)))
    with opened(page([NamedRun("a", run)])) as tab:
        line = tab.locator(".detail")
        assert line.is_hidden()
        tab.locator(".heat td").nth(5).hover()
        assert "tp2, 3 tokens: passed; 6.00x [5.82, 6.12]" in line.inner_text()
        assert tab.locator(".heat td[tabindex='0']").count() == 1
        tab.locator(".heat td").first.focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowRight"):
            tab.keyboard.press(key)
        assert "tp2, 2 tokens: passed; 4.00x" in line.inner_text()
        assert tab.evaluate("document.activeElement.textContent") == "4.00"
        assert tab.locator(".heat td[tabindex='0']").count() == 1


def test_the_roofline_is_as_wide_as_the_page(opened, small_page):
    with opened(small_page) as tab:
        plot, whole = (tab.evaluate(f"document.querySelector({name!r}).getBoundingClientRect().width")
                       for name in ("#roofline svg", "main"))
        assert plot == pytest.approx(whole, abs=2)


def test_a_link_to_a_folded_operator_opens_it(opened, large_run, monkeypatch):
    monkeypatch.setattr(document, "OPEN_CELLS", 900)
    with opened(page([NamedRun("a", large_run)])) as tab:
        folded = tab.locator("details.op:not([open])")
        assert folded.count() > 0
        target = folded.first.get_attribute("id")
        tab.locator(f"a[href='#{target}']").click()
        tab.wait_for_function("id => document.getElementById(id).open", arg=target, timeout=5000)


def test_candidate_text_runs_no_script(opened, graded, run_of):
    evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    result = graded(evil, evil, verdict=Verdict.WRONG_VALUES, message=evil, evidence=evil)
    with opened(page([NamedRun(evil, run_of(result, graded(evil)))])) as tab:
        assert "owned" not in tab.title()
        assert tab.get_by_text(evil).count() > 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_stand_alone_in_both_themes(opened, browser, small_run, tmp_path, scheme):
    for name, text in plots(small_run).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        context = browser.new_context(color_scheme=scheme)
        try:
            tab = context.new_page()
            tab.goto((tmp_path / name).as_uri())
            colours = tab.evaluate("""[...document.querySelectorAll("svg > rect, text")].slice(0, 2)
              .map(node => getComputedStyle(node).fill)""")
        finally:
            context.close()
        expected = [palette.THEMES[scheme][name] for name in ("surface", "ink")]
        assert colours[0] == "rgb({}, {}, {})".format(*(int(expected[0][i:i + 2], 16) for i in (1, 3, 5)))
        assert colours[1] != colours[0]


@pytest.fixture(scope="module")
def two_runs_page(small_run):
    """Two runs, of which the later one has slower, faster, failing, mended and missing scenarios and another source."""
    changed = []
    for i, result in enumerate(small_run.results):
        if i % 9 == 1 and result.timing:
            result = graded_again(result, 1.3 if result.op == "rms_norm" else 0.7)
        elif i % 9 == 2:
            result = replace(result, verdict=Verdict.WRONG_SCALE, timing=None, message="relative L2 error 0.1")
        elif result.verdict is Verdict.CRASHED and result.tokens == 8:
            result = graded_again(replace(result, verdict=Verdict.PASSED, timing=small_run.results[0].timing), 1.0)
        if i % 31:
            changed.append(result)
    later = replace(small_run, results=tuple(changed), started="2026-11-22T09:00:00+00:00", kernels=(
        replace(small_run.kernels[0], sha256="5e" * 32, code="import torch\nimport triton\n"),))
    return page([NamedRun("base.json", small_run), NamedRun("between.json", small_run), NamedRun("new.json", later)])


def graded_again(result, factor):
    """The scenario with a candidate that takes `factor` times as long, and a narrow interval."""
    speedup = result.timing.speedup / factor
    return replace(result, timing=replace(result.timing, speedup=speedup, speedup_low=speedup * 0.99,
                                          speedup_high=speedup * 1.01, candidate_s=result.timing.candidate_s * factor))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_several_runs_shows_what_changed(opened, two_runs_page, screenshots, scheme):
    with opened(two_runs_page, scheme=scheme) as tab:
        for words in ("From base.json", "Newly failing", "Newly passing", "Slower", "Faster", "Sources that differ",
                      "History"):
            assert tab.locator("#diff").get_by_text(words).first.is_visible(), words
        texts = tab.evaluate(CONTRASTS, "#diff p, #diff dt, #diff dd, #diff th, #diff td, #diff .chip, #diff .verdict, "
                                        "#diff .message, #diff li, #diff .aside")
        assert len(texts) > 200
        assert [text for text in texts if text[1] < 4.5] == []
        picture(tab.locator("#diff"), screenshots / f"report-diff-{scheme}.png")


def test_the_changes_fit_a_phone(opened, two_runs_page, screenshots):
    with opened(two_runs_page, width=PHONE) as tab:
        tab.evaluate("document.querySelectorAll('#diff details').forEach(part => { part.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert tab.evaluate("""[...document.querySelectorAll("#diff .scroll")]
          .filter(box => box.scrollWidth > box.clientWidth).length""") == 0
        labels = tab.evaluate("""[...document.querySelectorAll("#diff .plain td:not(.nil)")]
          .map(cell => cell.dataset.label || "")""")
        assert len(labels) > 20
        assert "" not in labels
        picture(tab.locator("#diff"), screenshots / "report-diff-phone.png")
