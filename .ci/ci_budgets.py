"""What each part of CI may cost, what it did cost, and whether that is a failure.

Budgets are CPU seconds of a reference machine. A short known piece of work is timed before and after each part; where
it takes longer than on that machine, the part's budget grows with it, so that no run fails by a slow machine alone.
"""

import hashlib
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

BUDGETS = Path(__file__).with_name("budgets.toml")
FAILS_AT = 2.0
"""Times its budget at which a part, or their sum, fails."""
PART_KEYS: dict[str, type] = {"cpu_s": Real, "wall_s": Real, "reason": str}
REFERENCE_KEYS: dict[str, type] = {"machine": str, "work_cpu_s": Real}
KEYS: dict[str, type] = {"total_cpu_s": Real, "reference": dict, "parts": dict}
NAMES: dict[type, str] = {Real: "a number above 0", str: "text", dict: "a table"}


class BudgetError(Exception):
    """A file of budgets that is not as it must be."""


@dataclass(frozen=True)
class Budget:
    """What one part may cost on the reference machine."""

    cpu_s: float
    """CPU seconds of all its processes."""
    wall_s: float
    """Wall seconds where nothing else runs; shown, never a failure. 0: it runs beside other parts."""
    reason: str
    """Why so much."""


@dataclass(frozen=True)
class Budgets:
    """The whole file."""

    parts: dict[str, Budget]
    """By part."""
    machine: str
    """The reference machine."""
    work_cpu_s: float
    """CPU seconds that `known_work` takes there."""


@dataclass(frozen=True)
class Cost:
    """What one part took."""

    part: str
    """Its name."""
    wall_s: float
    """Wall seconds."""
    cpu_s: float
    """CPU seconds of all its processes."""
    scale: float = 1.0
    """How many times slower than the reference machine this one was meanwhile, at least 1."""


def read_budgets(path: Path, parts: Sequence[str]) -> Budgets:
    """Read the file; BudgetError where a key is unknown or missing, a part has no budget, or the sum is another."""
    content = tomllib.loads(path.read_text())
    _check(path, "", content, KEYS)
    _check(path, "reference.", content["reference"], REFERENCE_KEYS)
    _check(path, "parts.", content["parts"], dict.fromkeys(parts, dict))
    for name, part in content["parts"].items():
        _check(path, f"parts.{name}.", part, PART_KEYS)
    total = sum(part["cpu_s"] for part in content["parts"].values())
    if total != content["total_cpu_s"]:
        raise BudgetError(f"{path.name}: the parts' cpu_s add up to {total}, not to total_cpu_s = "
                          f"{content['total_cpu_s']}")
    return Budgets({name: Budget(**content["parts"][name]) for name in parts}, **content["reference"])


def known_work() -> float:
    """CPU seconds that a short piece of work takes: integers, strings, a table, hashes, nothing of this project's."""
    started = time.process_time()
    value, table = 1, dict.fromkeys(range(1021), 0)
    block = b"x" * (1 << 20)
    for step in range(1_000_000):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
        table[value % 1021] += len(str(value))
        if step % 8000 == 0:
            value ^= int.from_bytes(hashlib.blake2b(block + str(value).encode()).digest()[:8])
    return time.process_time() - started


def scale(budgets: Budgets, *took_s: float) -> float:
    """How much slower than the reference machine this one is by these measurements of `known_work`; at least 1."""
    return max(1.0, *(seconds / budgets.work_cpu_s for seconds in took_s))


def allowed_cpu_s(budgets: Budgets, costs: Sequence[Cost]) -> float:
    """CPU seconds that these parts may take together on this machine."""
    return sum(budgets.parts[cost.part].cpu_s * cost.scale for cost in costs)


def findings(budgets: Budgets, costs: Sequence[Cost]) -> tuple[list[str], list[str]]:
    """What is over its budget, and what of that is so far over it that it fails."""
    over: list[str] = []
    failed: list[str] = []
    rows = [(cost.part, cost.cpu_s, budgets.parts[cost.part].cpu_s * cost.scale) for cost in costs]
    rows.append(("the sum", sum(cost.cpu_s for cost in costs), allowed_cpu_s(budgets, costs)))
    for name, took_s, allowed_s in rows:
        if took_s > allowed_s:
            line = f"{name} took {took_s:.0f} CPU s, {took_s / allowed_s:.2f} times its budget of {allowed_s:.0f}"
            (failed if took_s > FAILS_AT * allowed_s else over).append(line)
    return over, failed


def table(budgets: Budgets, costs: Sequence[Cost], how: str) -> str:
    """The parts with what they took beside their budgets, and below it what the figures are."""
    lines = [f"{'part':10}{'wall s':>9}{'budget':>9}{'CPU s':>9}{'budget':>9}  slower"]
    for cost in costs:
        budget = budgets.parts[cost.part]
        lines.append(_row(cost.part, cost.wall_s, budget.wall_s * cost.scale, cost.cpu_s, budget.cpu_s * cost.scale)
                     + f"  {cost.scale:.2f}x")
    after_another = [(cost.wall_s, budgets.parts[cost.part].wall_s * cost.scale) for cost in costs
                     if budgets.parts[cost.part].wall_s]
    lines.append(_row("sum", sum(wall_s for wall_s, _ in after_another), sum(budget_s for _, budget_s in after_another),
                      sum(cost.cpu_s for cost in costs), allowed_cpu_s(budgets, costs)))
    lines += [f"CPU seconds: {how}. Budgets (.ci/budgets.toml) are those of {budgets.machine}, times `slower`: what a "
              f"known piece of work takes here over the {budgets.work_cpu_s} s there, at least 1."]
    return "\n".join(lines)


def _row(name: str, *numbers: float) -> str:
    return f"{name:10}" + "".join(f"{number:9.0f}" for number in numbers)


def _check(path: Path, where: str, content: dict[str, Any], keys: Mapping[str, type]) -> None:
    for key in content:
        if key not in keys:
            raise BudgetError(f"{path.name}: {where}{key} is not one of {', '.join(keys)}")
    for key, kind in keys.items():
        if key not in content:
            raise BudgetError(f"{path.name}: {where}{key} is missing")
        value = content[key]
        if not isinstance(value, kind) or isinstance(value, bool) or value in ("", {}) or (
                isinstance(value, (int, float)) and (value < 0 or (value == 0 and key != "wall_s"))):
            raise BudgetError(f"{path.name}: {where}{key} = {value!r} is not {NAMES[kind]}")
