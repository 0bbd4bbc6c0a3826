"""What the machine lacks or refuses is one line, whatever option or command meets it."""

import subprocess
import sys

import pytest

from fastkernels.cli.main import main
from fastkernels.errors import install_command

LONG = "n" * 300
"""A name that no file system takes: unlike a directory without permission, it is refused to root too."""


@pytest.mark.parametrize("words", [
    (f"--fk-candidates={LONG}",), (f"--fk-manifest={LONG}/m.yaml",), (f"--fk-output-json={LONG}/r.json",),
    (f"--fk-dump={LONG}",), (f"--fk-manifest={LONG}", "--fk-list")])
def test_a_path_that_the_system_refuses(project, words):
    result = project.run("--fk-target=rms_norm", *words, manifest=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.stderr.lines if line.strip()]
    assert len(errors) == 1
    assert errors[0].startswith("ERROR: ")
    assert "File name too long" in errors[0]
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("words", [
    ("create-stubs", "--model", "llama31-8b", "--target", "rms_norm", "--output", LONG),
    ("create-stubs", "--model", "llama31-8b", "--manifest", LONG), ("report", LONG), ("compare", LONG, LONG),
    ("generate-inputs", "--config", LONG, "--output", "m.yaml")])
def test_a_path_that_the_system_refuses_to_a_command(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"fastkernels {words[0]}: ")


@pytest.mark.parametrize("name", ["torch", "yaml", "filelock"])
def test_a_missing_dependency_names_itself_and_the_command(tmp_path, name):
    (tmp_path / "hide_it.py").write_text(f"import sys\nsys.modules[{name!r}] = None\n")
    line = f"{name} not installed, which grading needs: {install_command()}"
    for words in (["-m", "pytest", "-p", "hide_it", "--fk-target=rms_norm"],
                  ["-c", "import hide_it, sys; from fastkernels.cli.main import main; sys.exit(main(['kernels']))"]):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False,
                              env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)})
        assert done.returncode == 4
        said = [text for text in done.stderr.splitlines() if text]
        assert [text.removeprefix("ERROR: ").removeprefix("fastkernels kernels: ") for text in said] == [line]
