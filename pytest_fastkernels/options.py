"""The `--fk-*` options, ini keys and marker of the plugin, and `Settings`, the frozen form that a run reads them in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastkernels.errors import did_you_mean, missing_dependencies
from fastkernels.options import BY_NAME, DEVICES, OPTIONS, PREFIX, Option

__all__ = ["BY_NAME", "DEVICES", "OPTIONS", "PREFIX", "Option", "Settings", "add_options", "check_names",
           "read_settings"]

GROUP = "fastkernels"
LISTED = ("manifest", "list", "map")
"""Options that --fk-list and --fk-map heed besides those that select."""


@dataclass(frozen=True)
class Settings:
    """The options of one run."""

    target: tuple[str, ...]
    """Operators asked for; empty means all."""
    level: tuple[int, ...]
    """Levels asked for; empty means all."""
    model: tuple[str, ...]
    """Model prefixes asked for; empty means all."""
    tp: tuple[int, ...]
    """Tensor parallel degrees asked for; empty means all."""
    seqlen: tuple[int, ...]
    """Token counts asked for; empty means all that suit the device."""
    category: tuple[str, ...]
    """Categories asked for; empty means all."""
    candidates: Path | None
    """Candidate directory, absolute; None for the installed one."""
    self_test: bool
    """Grade the baseline itself."""
    manifest: Path | None
    """Manifest file, absolute; None for the installed one."""
    device: str
    """`auto`, `cpu` or `cuda`."""
    baseline: str
    """`auto`, `native` or `vllm`."""
    num_warmup: int
    """Warm-up calls of each side."""
    num_runs: int
    """Most timed calls of each side."""
    max_time: float
    """Seconds of timing per scenario."""
    min_speedup: float | None
    """Least speedup that passes."""
    no_timing: bool
    """Check correctness only."""
    allow_passthrough: bool
    """Grade candidates that call foreign kernels as any other."""
    gates: tuple[str, ...]
    """Deployment gates asked for; empty means auto."""
    sanitize: tuple[str, ...]
    """Tools of compute-sanitizer asked for."""
    require_gates: bool
    """A failed gate fails the test."""
    timeout: float
    """Seconds before a call counts as hung."""
    build_timeout: float | None
    """Seconds before an import or a build counts as hung; None for 300, or `timeout` where that is under 60."""
    memory_limit: float | None
    """GiB of host memory for a candidate's processes; None for half of what is available."""
    env: tuple[str, ...]
    """Variables that workers see besides the usual ones."""
    sandbox: str
    """`auto`, `require` or `off`."""
    seed: int | None
    """Seed given by the user."""
    dump: Path | None
    """Directory for calls that went wrong, absolute."""
    output_json: Path
    """Results file, absolute."""
    resume: bool
    """Keep what the log holds."""
    list: bool
    """List operators and exit."""
    map: bool
    """List each model's operators and exit."""
    given: tuple[str, ...]
    """Options that stand on the command line, as typed."""

    @property
    def selects(self) -> bool:
        """True where the command line selects scenarios."""
        return any(option.selects and option.flag in self.given for option in OPTIONS)


def add_options(parser: pytest.Parser) -> None:
    """Register every option and ini key."""
    group = parser.getgroup(GROUP, "grading kernels on the shapes of real models (fastkernels)")
    for option in OPTIONS:
        text = option.full_help().replace("%", "%%")
        if option.metavar is None:
            group.addoption(option.flag, dest=option.dest, action="store_true", default=False, help=text)
        else:
            group.addoption(option.flag, dest=option.dest, action="append" if option.many else "store",
                            default=None, metavar=option.metavar, help=text)
        if option.ini:
            parser.addini(option.dest, f"Default of {option.flag}.", type="string", default="")


def check_names(args: Sequence[str]) -> None:
    """Raise UsageError with the nearest match for an unknown `--fk-...` word on the command line."""
    flags = [option.flag for option in OPTIONS]
    for arg in args:
        if arg == "--":
            return
        name = arg.split("=", 1)[0]
        if name.startswith(PREFIX) and name not in flags:
            raise pytest.UsageError(f"{name} is no option{did_you_mean(name, flags)} (pytest --help lists all of them)")


def check_dependencies(config: pytest.Config) -> None:
    """Raise UsageError with what to install where a run with one of the options lacks what grading needs."""
    is_asked = any(config.getoption(option.dest) not in (None, False) for option in OPTIONS)
    if is_asked and (missing := missing_dependencies()):
        raise pytest.UsageError(missing)


def read_settings(config: pytest.Config) -> Settings:
    """Parse the options of this run; UsageError for a bad value or for options that exclude each other."""
    values = {option.name: _value(config, option) for option in OPTIONS}
    given = tuple(option.flag for option in OPTIONS if config.getoption(option.dest) not in (None, False))
    if values["no_timing"]:
        for option in OPTIONS:
            if option.needs_timing and option.flag in given:
                raise pytest.UsageError(f"{option.flag} has no effect with --fk-no-timing; leave one of them out")
    if values["gates"]:
        _check_gates(values["gates"], values["require_gates"])
    asks = [flag for flag in ("--fk-list", "--fk-map") if flag in given]
    idle = [o.flag for o in OPTIONS if asks and o.flag in given and not (o.selects or o.name in LISTED)]
    if idle:
        raise pytest.UsageError(f"{', '.join(idle)} has no effect with {asks[0]}; leave one of them out")
    return Settings(**values, given=given)


def _check_gates(gates: tuple[str, ...], required: bool) -> None:
    from fastkernels.bench.kernels.gate_choice import NONE, chosen_gates

    try:
        chosen_gates(gates)
    except ValueError as error:
        raise pytest.UsageError(f"--fk-gates: {error}") from None
    if required and gates == (NONE,):
        raise pytest.UsageError("--fk-require-gates has no effect with --fk-gates=none; leave one of them out")


def _value(config: pytest.Config, option: Option) -> Any:
    found: Any = config.getoption(option.dest)
    if option.metavar is None:
        return bool(found)
    if option.many:
        texts = [text.strip() for value in found or () for text in value.split(",")]
        return tuple(dict.fromkeys(_parse(option, text, option.flag) for text in texts))
    if found is not None:
        return _absolute(_parse(option, found, option.flag), config.invocation_params.dir)
    if option.ini and (written := str(config.getini(option.dest)).strip()):
        folder = config.inipath.parent if config.inipath else config.rootpath
        return _absolute(_parse(option, written, f"ini key {option.dest}"), folder)
    default = option.parse(str(option.default)) if option.parse is Path and option.default else option.default
    return _absolute(default, config.invocation_params.dir)


def _parse(option: Option, text: str, where: str) -> Any:
    if not text:
        raise pytest.UsageError(f"{where}: a value is empty; expected {option.metavar}")
    try:
        return option.parse(text)
    except ValueError as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def _absolute(value: Any, folder: Path) -> Any:
    return folder / value.expanduser() if isinstance(value, Path) else value
