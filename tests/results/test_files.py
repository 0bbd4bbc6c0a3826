"""The results file, its schema, and what is refused."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from results_by_hand import passed

from fastkernels.errors import ResultsError
from fastkernels.results import (
    Correctness,
    KernelBenchResult,
    KernelSource,
    LeftOut,
    ScenarioResult,
    Subsumed,
    Verdict,
    json_schema,
    read_result,
    write_result,
)
from fastkernels.results.files import field_docs, write_whole

DOCS = Path(__file__).parents[2] / "docs"


def run():
    nan = float("nan")
    broken = replace(passed(), verdict=Verdict.WRONG_NONFINITE, timing=None,
                     correctness=Correctness(nan, float("inf"), -float("inf"), 0.0, 0.01, 0.016, 1))
    return KernelBenchResult(results=(passed(), broken), left_out=(LeftOut("a", "b"),),
                             subsumed=(Subsumed("L1.rms_norm", "L2.block"),), environment={"gpu": None},
                             kernels=(KernelSource("rms_norm", 1, "a.py", "0f", "x = 1\r\n"),),
                             settings={"seed": 1}, started="2026-11-21T10:00:00+00:00", wall_s=1.5)


def test_a_file_is_read_back_and_fits_its_schema(tmp_path):
    path = tmp_path / "new" / "kernels.json"
    write_result(path, run())
    data = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    jsonschema.validate(data, json_schema())
    assert repr(read_result(path)) == repr(run())  # NaN equals nothing, not even itself
    assert [p.name for p in path.parent.iterdir()] == ["kernels.json"]


SPOILT = {
    "verdict": lambda data: data["results"][0].update(verdict="splendid"),
    "no id": lambda data: data["results"][0].pop("id"),
    "tokens": lambda data: data["results"][0].update(tokens="many"),
    "no results": lambda data: data.pop("results"),
    "no speedup": lambda data: data["results"][0]["timing"].update(speedup=None),
    "no number": lambda data: data["results"][1]["correctness"].update(max_abs_error="much"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_the_schema_and_the_reader_refuse_the_same_things(tmp_path, name):
    path = tmp_path / "kernels.json"
    write_result(path, run())
    data = json.loads(path.read_text())
    SPOILT[name](data)
    path.write_text(json.dumps(data))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema())
    with pytest.raises(ResultsError, match=r"kernels\.json: .+"):
        read_result(path)


@pytest.mark.parametrize(("text", "says"), [
    ("", "no JSON"), ("{", "no JSON"), ("[]", "schema_version: None is not 1"), ("{}", "schema_version: None is not 1"),
    ('{"schema_version": 99}', "schema_version: 99 is not 1"), ('{"schema_version": 1}', "results: Field required"),
], ids=range(6))
def test_garbage_and_other_versions_are_refused_by_name(tmp_path, text, says):
    path = tmp_path / "kernels.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=r"kernels\.json: ") as caught:
        read_result(path)
    assert says in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="No such file"):
        read_result(tmp_path / "none.json")


def test_a_timing_without_a_correct_verdict_is_refused(tmp_path):
    path = tmp_path / "kernels.json"
    write_result(path, run())
    path.write_text(path.read_text().replace('"verdict": "passed"', '"verdict": "wrong_values"'))
    with pytest.raises(ResultsError, match="a timing with the verdict wrong_values"):
        read_result(path)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "kernels.json"
    write_result(path, run())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_result(path, replace(run(), environment={"x": object()}))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_schema_in_the_docs_is_the_schema():
    assert json.loads((DOCS / "results.schema.json").read_text()) == json_schema(), (
        "write it anew: python -m fastkernels.results.schema_docs")


def test_the_page_in_the_docs_names_every_field_and_verdict():
    page = (DOCS / "results-format.md").read_text()
    for form in (KernelBenchResult, ScenarioResult, Correctness, Verdict):
        for name in field_docs(form):
            assert f"`{name.lower()}`" in page, f"{form.__name__}.{name}"


def test_every_field_has_a_description():
    schema = json_schema()
    for definition in [schema, *schema["$defs"].values()]:
        for name, field in definition.get("properties", {}).items():
            assert field.get("description"), name


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "kernels.json"
    write_whole(path, b"old")
    (tmp_path / "link.json").symlink_to(path)
    write_whole(tmp_path / "link.json", b"newer")
    assert path.read_bytes() == b"newer"
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"newest")
    assert path.read_bytes() == b"newer"
    assert [found.name for found in path.parent.iterdir()] == ["kernels.json"]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_device_is_written_to_and_not_replaced():
    write_whole(Path("/dev/null"), b"text")
    assert Path("/dev/null").is_char_device()
