"""Installing: what pip is configured with reaches uv, and pip installs where uv cannot."""

import base64
import hashlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import ci_install
import pytest
from ci_install import NotForUvError, install_with_uv, pip_configuration, uv_command, uv_settings

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
    sys.exit(int(pathlib.Path({status!r}).read_text()))
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
    """A new environment whose pip finds only what lies in a folder."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    (tmp_path / "wheels").mkdir()
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"),
                        "PIP_DISABLE_PIP_VERSION_CHECK": "1"}.items():
        monkeypatch.setenv(name, value)
    pip = importlib.util.find_spec("pip")
    assert pip
    assert pip.origin
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    (site / "pip").symlink_to(Path(pip.origin).parent)  # unpacking pip anew takes seconds
    return tmp_path


def test_uv_comes_from_where_pip_looks_and_is_told_of_it(offline):
    """One environment after the other way: no uv to be had, one that installs, one that fails."""
    python, said, status = offline / "venv/bin/python", offline / "said.json", offline / "status"
    with pytest.raises(NotForUvError, match="uv cannot be installed: ERROR: No matching distribution found for uv"):
        install_with_uv(python, Path(os.devnull))
    wheel(offline / "wheels", "uv", {
        "fake_uv.py": RECORDER.format(said=str(said), status=str(status)),
        "uv-1.0.dist-info/entry_points.txt": "[console_scripts]\nuv = fake_uv:main\n"})
    status.write_text("0")
    install_with_uv(python, Path(os.devnull))
    arguments = json.loads(said.read_text())
    assert arguments[:2] == ["pip", "install"]
    assert arguments[arguments.index("--find-links") + 1] == str(offline / "wheels")
    assert "--no-index" in arguments
    status.write_text("3")
    with pytest.raises(NotForUvError, match="uv failed: no message"):
        install_with_uv(python, Path(os.devnull))


@pytest.fixture
def commands(monkeypatch):
    """What `install` runs, with uv and pip that fail where the test says so."""
    ran = []

    def run(command, **options):
        ran.append(command)
        return subprocess.CompletedProcess(command, 7 if "pip" in command else 0)

    monkeypatch.setattr(ci_install.subprocess, "run", run)
    return ran


def uv_that(monkeypatch, error):
    def install_with(python, constraint):
        if error:
            raise NotForUvError(error)

    monkeypatch.setattr(ci_install, "install_with_uv", install_with)


def test_where_uv_fails_pip_installs_and_it_is_said(commands, monkeypatch, capsys):
    uv_that(monkeypatch, "uv failed: no network")
    assert ci_install.main(["somewhere", "--constraint", "pins.txt"]) == 7
    assert commands[0][1:] == ["-m", "venv", "somewhere"]
    assert commands[1][1:] == [
        "-m", "pip", "install", "--quiet", "--constraint", "pins.txt", "--editable", ".[test,dev]"]
    assert capsys.readouterr().out == (
        "uv failed: no network\ninstalling with pip instead, which takes a minute or two\n")


def test_where_uv_installs_pip_does_not(commands, monkeypatch, capsys):
    uv_that(monkeypatch, "")
    assert ci_install.main(["somewhere", "--constraint", "pins.txt"]) == 0
    assert len(commands) == 1
    assert capsys.readouterr().out == ""


def test_a_tool_that_is_named_is_the_only_one(commands, monkeypatch, capsys):
    uv_that(monkeypatch, "uv failed: no network")
    assert ci_install.main(["somewhere", "--constraint", "pins.txt", "--tool", "uv"]) == 1
    assert (len(commands), capsys.readouterr().err) == (1, "error: uv failed: no network\n")
    assert ci_install.main(["somewhere", "--constraint", "pins.txt", "--tool", "pip"]) == 7
    assert len(commands) == 3
