"""Makes a virtual environment and installs the project into it: with uv where that can be had, else with pip.

`python3 .ci/ci_install.py .venv --constraint constraints-cpu.txt`, which is what `make install` does. uv unpacks in
parallel and compiles nothing, so that an environment takes seconds where pip takes a minute and a half. uv does not
read pip's configuration, so it is given what pip is configured with: indexes, folders of wheels (where a CPU build of
torch may lie), certificates and constraints.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EXTRAS = ".[test,dev]"
LISTS = {"find-links": "--find-links", "extra-index-url": "--index", "constraint": "--constraint",
         "trusted-host": "--allow-insecure-host"}
"""Keys of pip's configuration that hold several values, and uv's option for each value."""
VALUES = {"index-url": "--default-index"}
"""Keys that hold one value, and uv's option."""
VARIABLES = {"cert": ("SSL_CERT_FILE",), "client-cert": ("SSL_CLIENT_CERT",), "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
             "timeout": ("UV_HTTP_TIMEOUT",), "default-timeout": ("UV_HTTP_TIMEOUT",)}
"""Keys that uv takes from the environment; a variable that is set already stays."""
WITHOUT_EFFECT = ("cache-dir", "config-file", "disable-pip-version-check", "exists-action", "log", "no-cache-dir",
                  "no-color", "no-compile", "no-input", "no-warn-script-location", "progress-bar", "quiet",
                  "require-virtualenv", "retries", "root-user-action", "use-pep517", "verbose")
"""Keys that do not change what is installed."""
FALSE = ("", "0", "false", "off", "no")


class NotForUvError(Exception):
    """Why uv cannot do what pip is configured to do."""


@dataclass(frozen=True)
class Settings:
    """What uv is given so that it finds what pip would find."""

    options: list[str] = field(default_factory=list)
    """Options of `uv pip install`."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables."""


def pip_configuration(listing: str) -> dict[str, str]:
    """What pip goes by, from the output of `pip config list`: environment, then section `install`, then `global`."""
    found: dict[str, dict[str, str]] = {":env:": {}, "install": {}, "global": {}}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if equals and section in found:
            found[section][key.replace("_", "-")] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}


def uv_settings(configuration: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """uv's counterpart of pip's configuration; NotForUvError for a key that has none and may matter."""
    settings = Settings()
    for key, value in configuration.items():
        if key in LISTS:
            for one in value.split():
                settings.options.extend((LISTS[key], one))
        elif key in VALUES:
            settings.options.extend((VALUES[key], value))
        elif key in VARIABLES:
            settings.variables.update({name: value for name in VARIABLES[key] if not environment.get(name)})
        elif key == "no-index":
            settings.options.extend([] if value.lower() in FALSE else ["--no-index"])
        elif key not in WITHOUT_EFFECT:
            raise NotForUvError(f"pip is configured with {key}={value!r}, for which uv is given no counterpart")
    if "--index" in settings.options:  # pip takes the best version of all indexes, uv by itself the first index's
        settings.options.extend(("--index-strategy", "unsafe-best-match"))
    return settings


def uv_command(python: Path, constraint: Path, settings: Settings) -> list[str]:
    """The installing command with uv."""
    return [str(python.with_name("uv")), "pip", "install", "--quiet", "--python", str(python), "--constraint",
            str(constraint), *settings.options, "--editable", EXTRAS]


def pip_command(python: Path, constraint: Path) -> list[str]:
    """The same with pip."""
    return [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(constraint), "--editable", EXTRAS]


def install_with_uv(python: Path, constraint: Path) -> None:
    """Install uv beside `python`, then the project with it; NotForUvError where one of the two fails."""
    listing = subprocess.run([str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = uv_settings(pip_configuration(listing.stdout), os.environ)
    for what, command in (("uv cannot be installed", [str(python), "-m", "pip", "install", "--quiet", "uv"]),
                          ("uv failed", uv_command(python, constraint, settings))):
        done = subprocess.run(command, env={**os.environ, **settings.variables}, capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise NotForUvError(f"{what}: {_last_line(done.stderr, done.stdout)}")


def install(venv: Path, constraint: Path, tool: str) -> int:
    """Make the environment and install into it; the exit status of the tool that installed last."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv.absolute() / ("Scripts" if os.name == "nt" else "bin") / "python"
    if tool != "pip":
        try:
            install_with_uv(python, constraint)
        except NotForUvError as error:
            if tool == "uv":
                print(f"error: {error}", file=sys.stderr)
                return 1
            print(f"{error}\ninstalling with pip instead, which takes a minute or two", flush=True)
        else:
            return 0
    return subprocess.run(pip_command(python, constraint), check=False).returncode


def _last_line(*texts: str) -> str:
    lines: Iterable[str] = (line.strip() for text in texts for line in reversed(text.splitlines()))
    return next(filter(None, lines), "no message")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and install."""
    parser = argparse.ArgumentParser(description="Install the project into a virtual environment.")
    parser.add_argument("venv", type=Path, help="folder of the environment; made where there is none")
    parser.add_argument("--constraint", type=Path, required=True, help="version constraints; /dev/null for none")
    parser.add_argument("--tool", choices=("auto", "uv", "pip"), default="auto",
                        help="auto (default): uv, and pip where uv cannot be had or fails")
    args = parser.parse_args(argv)
    return install(args.venv, args.constraint, args.tool)


if __name__ == "__main__":
    sys.exit(main())
