"""Models may be called whatever a folder is: manifests hold names as text, and addresses with them are found."""

import json
from pathlib import Path

import pytest
import yaml
from manifest.configs_by_hand import config

from fastkernels.cli.main import USAGE_ERROR, main
from fastkernels.errors import ManifestError
from fastkernels.manifest import Selection, load_manifest
from fastkernels.manifest.emit import flow
from fastkernels.manifest.generate import generate, shipped_configs
from fastkernels.manifest.quick_yaml import load_plain
from fastkernels.manifest.reader import parse_config, short_name

NAMES = {
    "on": "on", "Off": "off", "null": "null", "~": "", "y": "y", "1_000": "1_000", "1e3": "1e3", "0x1F": "0x1f",
    "12": "12", "2026-12-01": "2026-12-01", "mod+el": "mod-el", "a b": "a-b", "v1.5": "v15", "a'b\"c": "a-b-c",
    "ends:": "ends", "#1": "1", "*x": "x", "&x": "x", "two\nlines": "two-lines", "Größe-7B": "gr-e-7b", "模型": "",
    "_x": "x", "chat": "chat", "a-tp2-s8": "a-tp2-s8", "a/b-It": "b",
}  # fmt: skip
"""What a model is called -> its short name; empty where none can be had."""


@pytest.mark.parametrize("name", NAMES)
def test_short_name(name: str) -> None:
    if NAMES[name]:
        assert short_name(name) == NAMES[name]
        return
    with pytest.raises(ManifestError, match="gives no short name"):
        short_name(name)


@pytest.mark.parametrize("name", [name for name, short in NAMES.items() if short])
def test_a_manifest_reads_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    short, file = NAMES[name], tmp_path / "m.yaml"
    read = parse_config(config("llama"), "c.json", short, name)
    file.write_text(generate([read], tps=(1,), options=f" {name!r}", levels=(1, 3)))
    manifest = load_manifest(file)
    assert {model.name: model.model_id for model in manifest.models.values()} == {short: name}
    assert yaml.safe_load(file.read_text()) == load_plain(file.read_text())
    (found,) = manifest.scenarios(Selection(targets=("embedding",), models=(short,), seqlens=(1,)))
    assert found.id == f"embedding[{short}-tp1-s1]"


@pytest.mark.parametrize("text", ["on", "1_000", "1e3", "a\tb", "a\x07\x7f\x85\u2028b", "\\n", 'say "x"', "😀"])
def test_text_reads_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"[{flow(text)}]") == load_plain(f"[{flow(text)}]") == [text]
    assert yaml.safe_load(flow({text: 1})) == {text: 1}


@pytest.mark.parametrize("name", ["", "UPPER", "mod+el", "a b", "-a", "a\n"])
def test_a_name_that_no_address_can_have_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="a short name has lower-case letters, digits, '-' and '_' only"):
        generate([parse_config(config("llama"), "c.json", name, "me/Model")])


def test_a_shipped_file_of_an_impossible_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "My Model.json").write_text(json.dumps(config("llama")))
    with pytest.raises(ManifestError, match="My Model: 'My Model': a short name has"):
        generate(shipped_configs(tmp_path))


def test_the_command_says_where_it_was_written_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break in a path stays within the header's comment."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "two\nschema_version: 2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config("llama")))
    assert main(["generate-inputs", "--config", folder.name, "--output", "m.yaml", "--level", "1", "--tp", "2"]) == 0
    text = (tmp_path / "m.yaml").read_text()
    assert r"--config 'two\nschema_version: 2' --tp 2 --level 1" in text.splitlines()[1]
    manifest = load_manifest(tmp_path / "m.yaml")
    assert {operator.level for operator in manifest.operators.values()} == {1}


def test_levels_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate-inputs", "--config", "llama32-1b", "--level", "5"]) == USAGE_ERROR
    assert "argument --level: invalid choice: 5 (choose from 1, 2, 3, 4)" in capsys.readouterr().err
    assert main(["generate-inputs", "--level", "1", "--check"]) == 1
