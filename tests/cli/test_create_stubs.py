"""`fastkernels create-stubs`, and what the grader says of a stub: empty, and filled in."""

import ast
from pathlib import Path

import pytest
from results_by_hand import rms_norm
from suite import exhaustive

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.cli import create_stubs
from fastkernels.cli.main import main
from fastkernels.registry import Candidates, Overlay, baseline_root, discover
from fastkernels.results import Verdict

MANIFEST = """\
schema_version: 1
category: llm
models:
  tiny: {id: test/tiny, tp: [1]}
operators:
  rms_norm:
    level: 1
    class: RMSNorm
    scenarios:
    - uses: [tiny-tp1]
      tokens: [4]
      init: {hidden_size: 32, eps: 1.0e-05, dtype: bfloat16}
      inputs:
        x: {shape: [tokens, 32], dtype: bfloat16, values: normal}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A directory with a manifest of one operator."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(MANIFEST)
    return ["create-stubs", "--model", "tiny", "--manifest", "tiny.yaml", "--output", "mine"]


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_nothing_is_written_among_installed_packages(tiny, tmp_path, monkeypatch, capsys, folder):
    installed = tmp_path / "lib" / folder / "fastkernels" / "tasks"
    assert main([*tiny[:-1], str(installed)]) == 4
    assert "belongs to the installed packages" in capsys.readouterr().err
    monkeypatch.setattr(create_stubs, "baseline_root", lambda: installed / "baseline")
    assert main(tiny[:-2]) == 0
    said = capsys.readouterr().out
    assert said.startswith("my_kernels/L1/rms_norm.py: rms_norm\n")
    assert "--fk-candidates=my_kernels" in said
    assert not installed.exists()


def filled(path: Path) -> str:
    """The stub with the body of the baseline's native path in place of its `raise`."""
    source = (baseline_root() / "L1" / "rms_norm.py").read_text()
    native = next(node for node in ast.walk(ast.parse(source))
                  if isinstance(node, ast.FunctionDef) and node.name == "forward_native")
    body = "\n        ".join("\n".join(map(ast.unparse, native.body)).splitlines())
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "raise NotImplementedError" in line)
    return "\n".join([*lines[:at], f"        {body}", *lines[at + 1:]]) + "\n"


def test_a_stub_fails_clearly_and_passes_when_filled_with_the_baselines_body(tiny, tmp_path, capsys):
    assert main(tiny) == 0
    assert capsys.readouterr().out == (
        "mine/L1/rms_norm.py: rms_norm\n"
        "Fill in forward, then: pytest --fk-model=tiny --fk-target=rms_norm --fk-candidates=mine "
        "--fk-manifest=tiny.yaml\n")
    settings = GraderSettings(device="cpu", seed=3, timing=False, candidates_dir=tmp_path / "mine")
    with KernelGrader(settings) as grader:
        empty = grader.grade(rms_norm())
    assert empty.verdict is Verdict.FORWARD_ERROR
    assert "L1/rms_norm.py: RMSNorm.forward is still a stub" in empty.message
    path = tmp_path / "mine" / "L1" / "rms_norm.py"
    path.write_text(filled(path))
    with KernelGrader(settings) as grader:
        assert grader.grade(rms_norm()).verdict is Verdict.PASSED
        assert grader.grade(rms_norm(residual=True)).verdict is Verdict.PASSED


def test_a_second_time_refuses_and_leaves_the_files(tiny, tmp_path, capsys):
    assert main(tiny) == 0
    path = tmp_path / "mine" / "L1" / "rms_norm.py"
    path.write_text("mine\n")
    capsys.readouterr()
    assert main(tiny) == 4
    assert "create-stubs: 1 of 1 files exist already, so nothing was written: mine/L1/rms_norm.py" in (
        capsys.readouterr().err)
    assert path.read_text() == "mine\n"


@pytest.mark.parametrize(("words", "message"), [
    (["--model", "tinny"], "Did you mean 'tiny'?"),
    (["--level", "2"], "level 2 is not one of 1"),
    (["--level", "5"], "'5' is not one of 1, 2, 3, 4"),
    (["--target", "rmsnorm"], "Did you mean 'rms_norm'?"),
    (["--output", "tiny.yaml"], "--output: tiny.yaml is a file; name a directory"),
    (["--outputs", "x"], "unrecognized arguments: --outputs x"),
])
def test_a_wrong_word_names_what_is_allowed(tiny, words, message, tmp_path, capsys):
    assert main([*tiny, *words]) == 4
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_by_default_stubs_go_to_the_installed_slot(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "baseline").symlink_to(baseline_root())
    monkeypatch.setattr("fastkernels.cli.create_stubs.baseline_root", lambda: tmp_path / "tasks" / "baseline")
    assert main(tiny[:-2]) == 0
    assert (tmp_path / "tasks" / "candidate" / "L1" / "rms_norm.py").exists()
    assert "--fk-candidates" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "model", ["mixtral-8x7b", "gemma3-4b", *exhaustive("llama31-8b", "deepseek-v3", "gpt-oss-20b")])
def test_stubs_of_every_operator_of_the_shipped_manifest_can_be_imported(model, tmp_path):
    assert main(["create-stubs", "--model", model, "--output", str(tmp_path / model)]) == 0
    found = Candidates.load(tmp_path / model).files
    assert found
    assert {module: file.problem for module, file in found.items() if file.problem} == {}
    baseline = discover(baseline_root())
    with Overlay(tmp_path / model) as overlay:
        for module in found:
            assert {*baseline[module].classes} <= set(dir(overlay.module(module)))
