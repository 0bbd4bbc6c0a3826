"""What is decided once per run, in the only process or in xdist's controller, and handed to workers as plain data."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_fastkernels.options import Settings

_ADDRESS = re.compile(r"^(?:.*/)?(?P<address>[\w.-]+\[[^\[\]/:]+\])$")
SEED_BITS = 31
"""Seeds fit every random generator in use."""


@dataclass(frozen=True)
class Run:
    """The decisions of one run."""

    seed: int
    """Seed of weights and inputs."""
    addresses: tuple[str, ...]
    """Scenario addresses given in place of paths."""
    paths: tuple[str, ...] | None
    """What pytest itself shall collect; None where the plugin adds no items of its own."""
    benchmark_only: bool
    """Value of --benchmark-only, which the plugin answers for."""
    device: str = ""
    """`cpu` or `cuda`; empty until the plan is made."""
    left_out: Mapping[str, str] | None = None
    """Reasons by address; None until the plan is made."""
    output_json: str = ""
    """Results file, beside which the log lies; empty until the run has started."""

    @property
    def collects(self) -> bool:
        """True where the plugin adds the graded scenarios as items of its own."""
        return self.paths is not None

    def to_wire(self) -> dict[str, Any]:
        """Plain data for xdist."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "Run":
        """Read `to_wire`'s data."""
        return cls(**{**data, "addresses": tuple(data["addresses"]),
                      "paths": None if data["paths"] is None else tuple(data["paths"])})

    def planned(self, device: str, left_out: Mapping[str, str]) -> "Run":
        """The same run once its plan is made."""
        return replace(self, device=device, left_out=dict(left_out))


def decide(config: pytest.Config, settings: Settings) -> Run:
    """Read seed and positional arguments; a scenario address may stand where pytest expects a path."""
    from_user = config.args_source is pytest.Config.ArgsSource.ARGS
    given = list(config.args) if from_user else []
    addresses = {arg: found for arg in given if (found := _address(arg, config.invocation_params.dir))}
    paths = tuple(arg for arg in given if arg not in addresses)
    own_items = bool(addresses) or (settings.selects and not paths)
    return Run(
        seed=secrets.randbits(SEED_BITS) if settings.seed is None else settings.seed,
        addresses=tuple(addresses.values()), paths=paths if own_items else None,
        benchmark_only=bool(getattr(config.option, "benchmark_only", False)))


def _address(arg: str, folder: Path) -> str:
    match = _ADDRESS.match(arg)
    return match["address"] if match and not (folder / arg).exists() else ""
