"""What a candidate says in its errors reaches file, table, workers of xdist and JUnit whatever letters are in it."""

import xml.etree.ElementTree
from collections import Counter

import pytest
from ended_runs import SELECTED, verdicts
from suite import exhaustive

from fastkernels.bench.isolate.process import _readable
from fastkernels.bench.isolate.protocol import ProtocolError, decode
from fastkernels.results.text import plain

ODD = "f\\udcf6\\x00\\x1b[31mred\\x1b[0m\\x1b]0;title\\x07\\u202e\\ud800\\x9b2J" + "long " * 100_000
"""As it stands in a source: a lone surrogate, NUL, colours, a terminal's title, turned letters, and much of it."""
PLACES = {
    "import_error": ("class RMSNorm", "raise ValueError(ODD)\n\n\nclass RMSNorm"),
    "init_error": ("super().__init__()", "raise ValueError(ODD)"),
    "forward_error": ("wide =", "raise ValueError(ODD)\n        wide ="),
}


@pytest.mark.parametrize(("text", "expected"), [
    ("a\tb\n", "a\tb\n"), ("größe 漢 🙂", "größe 漢 🙂"), ("a\r\nb", "a\nb"), ("10%\r50%", r"10%\r50%"),
    ("f\udcf6", r"f\udcf6"), ("\x00\x07\x7f\x9b", r"\x00\x07\x7f\x9b"), ("\x1b[1;31mred\x1b[0m", "red"),
    ("\x1b[2Jgone", r"\x1b[2Jgone"), ("a\u2028b\u202ec\u2066", r"a\u2028b\u202ec\u2066"), ("\uffff", r"\uffff")])
def test_plain_text(text, expected):
    assert plain(text) == expected
    assert plain(expected) == expected


def test_an_answer_is_plain_in_depth():
    answer = decode(rb'{"message": "\udcf6", "tree": [{"\u001b": ["\u0000"]}], "count": 1.5, "none": null}')
    assert _readable(answer) == {"message": r"\udcf6", "tree": [{r"\x1b": [r"\x00"]}], "count": 1.5, "none": None}
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ProtocolError, match="lists within lists"):
        _readable({"tree": deep})


@pytest.mark.parametrize(("verdict", "mode"), [
    ("forward_error", ("-n2",)), *exhaustive(*((verdict, mode) for verdict in PLACES for mode in ((), ("-n2",))))])
def test_an_error_of_any_letters_is_a_verdict(bare, warm, rms_norm, verdict, mode):
    here, there = PLACES[verdict]
    bare.candidate(text=f'ODD = "{ODD}"\n' + rms_norm.replace(here, there))
    result = bare.run(*SELECTED, "--junitxml=junit.xml", "--fk-model=tiny-b", *mode, manifest=False)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert Counter(verdicts(bare.results()).values()) == {verdict: 2}
    message = bare.results()["results"][0]["message"]
    assert r"ValueError: f\udcf6\x00red\x1b]0;title\x07\u202e\ud800\x9b2Jlong long" in message
    assert len(message) < 2000
    assert xml.etree.ElementTree.parse(bare.path / "junit.xml").getroot().find(".//failure") is not None
    assert not {"\x1b]", "\x00", "\udcf6"} & set(result.stdout.str())


def test_an_error_of_the_tests_own_is_carried_too(project):
    """The harness itself breaks with such a text in a worker of xdist."""
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace('"the harness itself broke"', f'"{ODD[:60]}"'))
    project.fake(tiny_b="broken")
    result = project.run("--fk-target=rms_norm", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert Counter(verdicts(project.results()).values()) == {"passed": 4, "no_result": 2}
