"""Installing: what pip is configured with reaches uv, and pip installs where uv cannot."""

import base64
import hashlib
import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import ci_install
import pytest
from ci_install import NotForUvError, pip_configuration, uv_command, uv_settings

LISTING = """\
:env:.cert='/certificates.crt'
:env:.disable-pip-version-check='1'
:env:.find-links='/from/environment'
global.extra-index-url='file:///one/simple file:///two/simple'
global.find-links='/from/file'
global.index-url='https://mirror/simple'
install.constraint='/caps.txt'
"""
RECORDER = """\
import json, pathlib, sys
def main():
    pathlib.Path({said!r}).write_text(json.dumps(sys.argv[1:]))
    sys.exit({status})
"""


def wheel(folder: Path, name: str, files: dict[str, str], version: str = "1.0") -> None:
    """A wheel by hand: what is installed here must come from no index."""
    information = f"{name}-{version}.dist-info"
    files = {**files, f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
             f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        rows = []
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text)}")
        archive.writestr(f"{information}/RECORD", "\n".join([*rows, f"{information}/RECORD,,"]) + "\n")


def test_the_environment_goes_before_the_section_and_the_section_before_global():
    found = pip_configuration(LISTING + "install.index-url='https://other/simple'\nfreeze.find-links='/not/for/install'\n")
    assert found["find-links"] == "/from/environment"
    assert found["index-url"] == "https://other/simple"
    assert found["constraint"] == "/caps.txt"


def test_uv_is_given_what_pip_is_configured_with():
    settings = uv_settings(pip_configuration(LISTING), {})
    pairs = list(zip(settings.options[::2], settings.options[1::2], strict=True))
    assert sorted(pairs) == [
        ("--constraint", "/caps.txt"), ("--default-index", "https://mirror/simple"),
        ("--find-links", "/from/environment"), ("--index", "file:///one/simple"),
        ("--index", "file:///two/simple"), ("--index-strategy", "unsafe-best-match")]
    assert settings.variables == {"SSL_CERT_FILE": "/certificates.crt"}
    command = uv_command(Path("/venv/bin/python"), Path("pins.txt"), settings)
    assert command[0] == "/venv/bin/uv"
    assert command[-2:] == ["--editable", ".[test,dev]"]
    assert command[command.index("--python") + 1] == "/venv/bin/python"
    assert ("--constraint", "pins.txt") in list(itertools.pairwise(command))


def test_a_certificate_that_is_set_for_all_stays():
    assert uv_settings({"cert": "/pip.crt"}, {"SSL_CERT_FILE": "/all.crt"}).variables == {}


def test_nothing_configured_is_nothing_given():
    assert uv_settings(pip_configuration(""), {}) == ci_install.Settings()
    assert uv_settings({"no-index": "true"}, {}).options == ["--no-index"]
    assert uv_settings({"no-index": "false"}, {}).options == []


def test_a_key_that_may_matter_and_has_no_counterpart_is_named():
    with pytest.raises(NotForUvError, match="no-binary=':all:'"):
        uv_settings({"no-binary": ":all:"}, {})


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A project that needs nothing, and a pip that finds only what lies in a folder."""
    project = tmp_path / "project"
    (project / "thing").mkdir(parents=True)
    (project / "thing/__init__.py").touch()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "thing"\nversion = "1.0"\n')
    (project / "backend.py").write_text("raise ImportError('built by pip')\n")
    (tmp_path / "wheels").mkdir()
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"),
                        "PIP_DISABLE_PIP_VERSION_CHECK": "1"}.items():
        monkeypatch.setenv(name, value)
    return project


def run(project: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, ci_install.__file__, str(project.parent / "venv"), "--constraint", os.devnull, *more]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, check=False)


def test_without_uv_pip_installs_and_it_is_said(offline):
    """The project's own backend fails on purpose: that its words arrive shows that pip has come as far as building."""
    done = run(offline)
    assert "uv cannot be installed: ERROR: No matching distribution found for uv\ninstalling with pip" in done.stdout
    assert done.returncode != 0
    assert "built by pip" in done.stderr


@pytest.mark.parametrize("status", [0, 3])
def test_uv_is_called_with_pips_folders_and_its_failure_is_not_the_end(offline, status):
    said = offline.parent / "said.json"
    wheel(offline.parent / "wheels", "uv", {
        "fake_uv.py": RECORDER.format(said=str(said), status=status),
        "uv-1.0.dist-info/entry_points.txt": "[console_scripts]\nuv = fake_uv:main\n"})
    done = run(offline)
    arguments = json.loads(said.read_text())
    assert arguments[:2] == ["pip", "install"]
    assert arguments[arguments.index("--find-links") + 1] == str(offline.parent / "wheels")
    assert "--no-index" in arguments
    assert ("uv failed: no message" in done.stdout) == (status != 0)
    assert (done.returncode == 0) == (status == 0)  # the fall-back's backend fails, as above
    if status:
        only = run(offline, "--tool", "uv")
        assert (only.returncode, only.stderr) == (1, "error: uv failed: no message\n")
