"""YAML whose aliases stand for far more than is written is refused at once; what is shared as usual is read."""

import json
import time
from pathlib import Path

import pytest

from fastkernels.cli.main import USAGE_ERROR, main
from fastkernels.errors import ManifestError
from fastkernels.manifest.aliases import AliasError, check_aliases
from fastkernels.manifest.loader import default_path, load_manifest, parse_manifest

HEAD = "schema_version: 1\ncategory: llm\nmodels: {m: {id: m, tp: [1]}}\n"
ENTRY = ("operators: {r: {level: 1, class: R, scenarios: [{uses: [m-tp1], tokens: [1], init: {a: VALUE}, "
         "inputs: {x: {shape: [1], dtype: bfloat16, values: normal}}}]}}\n")  # fmt: skip
QUICK_S = 5.0
"""Far over what a refusal takes on a busy machine, far under what reading takes."""


def layers(count: int, width: int, form: str) -> str:
    """`configs` in which each of `count` values names the one before it `width` times."""
    rows = ["configs:", "  a0: &a0 {x: 1}"]
    rows += [f"  a{i}: &a{i} " + form.replace("ITEMS", ", ".join([f"*a{i - 1}"] * width)) for i in range(1, count)]
    return "\n".join(rows) + "\n"


def nested(depth: int) -> str:
    text = "{x: 1}"
    for level in range(depth):
        text = f"{{<<: [&m{level} {text}, *m{level}]}}"
    return text


BOMBS = {
    "lists": HEAD + layers(30, 10, "[ITEMS]") + ENTRY.replace("VALUE", "*a29"),
    "mappings": HEAD + layers(40, 2, "{l: *a0, m: [ITEMS]}") + ENTRY.replace("VALUE", "*a39"),
    "merges": HEAD + f"configs: {{k: {nested(30)}}}\n" + ENTRY.replace("VALUE", "1"),
    "in-the-way-of-the-quick-reader": HEAD + layers(30, 10, "[ITEMS]") + ENTRY.replace("VALUE", "[!!str 1, *a29]"),
    "depth": HEAD + "configs: " + "[" * 100_000 + "]" * 100_000 + "\n" + ENTRY.replace("VALUE", "1"),
    "loops": HEAD + ENTRY.replace("VALUE", "&l [&k [*l, *l], " + ", ".join(["*k"] * 40) + "]"),
    "digits": HEAD + ENTRY.replace("VALUE", "9" * 5000),
}
MESSAGES = {"depth": "nested too deeply", "loops": "scenarios[0].init.a: ",
            "merges": "merges (<<) copy over 1,000,000 keys",
            "digits": "not YAML: Exceeds the limit (4300 digits)"}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_refused(name: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ManifestError) as caught:
        parse_manifest(BOMBS[name], Path("m.yaml"))
    assert time.perf_counter() - began < QUICK_S
    assert str(caught.value).startswith("m.yaml: ")
    assert MESSAGES.get(name, "its aliases stand for ") in str(caught.value)


def test_a_list_of_operators_does_not_hang(pytester: pytest.Pytester) -> None:
    (pytester.path / "m.yaml").write_text(BOMBS["lists"])
    result = pytester.runpytest("--fk-list", "--fk-manifest=m.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*m.yaml: its aliases stand for *e+29 values; a manifest of this size may have*")


def test_what_is_shared_as_usual_is_read() -> None:
    assert load_manifest(default_path()).entries
    parse_manifest(HEAD + layers(5, 9, "[ITEMS]") + ENTRY.replace("VALUE", "*a4"), Path("m.yaml"))


def test_the_limit_grows_with_what_is_written() -> None:
    shared = [0] * 1000
    check_aliases([shared] * 900)
    with pytest.raises(AliasError, match=r"stand for 1e\+06 values; a manifest of this size may have 1,000,000"):
        check_aliases([shared] * 1001)
    check_aliases([[shared] * 11 for _ in range(100_000 // 1000 * 600)][:90])


@pytest.mark.parametrize(("text", "message"), [
    ("[" * 100_000, "nested too deeply"), ('{"vocab_size": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
    ("\ufeff{", "not JSON"),
    ('{"architectures": [["LlamaForCausalLM"]]}', "architectures: ['LlamaForCausalLM'] is not"),
])
def test_json_that_is_no_config(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(text)
    assert main(["generate-inputs", "--config", str(tmp_path)]) == USAGE_ERROR
    assert message in capsys.readouterr().err


def test_numbers_that_json_should_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = json.loads((default_path().parent / "models" / "llama31-8b.json").read_text())
    for value in (float("nan"), float("inf"), 10**400):
        (tmp_path / "config.json").write_text(json.dumps({**shipped, "rms_norm_eps": value}))
        assert main(["generate-inputs", "--config", str(tmp_path)]) == USAGE_ERROR
        assert "rms_norm_eps: " in capsys.readouterr().err
