"""Public functions that take a path take its text as well."""

import inspect

import pytest

from fastkernels import manifest, registry, results
from fastkernels.errors import FastKernelsError
from fastkernels.manifest import default_path, load_manifest
from fastkernels.registry import Candidates
from fastkernels.results import KernelBenchResult, read_result, write_result


def test_paths_may_be_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_result("results.json", KernelBenchResult(results=()))
    assert read_result("results.json") == read_result(tmp_path / "results.json")
    assert load_manifest(str(default_path())).path == default_path()
    (tmp_path / "mine" / "L1").mkdir(parents=True)
    assert Candidates.load("mine").directory == tmp_path / "mine"
    for read in (read_result, load_manifest, Candidates.load):
        with pytest.raises(FastKernelsError, match="nowhere"):
            read("nowhere")


@pytest.mark.parametrize("package", [manifest, registry, results], ids=lambda package: package.__name__)
def test_no_public_function_takes_a_path_alone(package):
    for name in package.__all__:
        found = getattr(package, name)
        if not inspect.isfunction(found):
            continue
        for parameter in inspect.signature(found).parameters.values():
            note = str(parameter.annotation)
            assert "Path" not in note or "str" in note, f"{package.__name__}.{name}({parameter})"
