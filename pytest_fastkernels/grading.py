"""What grades scenarios in this process: the library's KernelGrader, or another that a plugin puts in its place."""

import time
from typing import TYPE_CHECKING, Any, Protocol

from fastkernels.bench.kernels import GraderSettings, KernelGrader, resolve_device
from fastkernels.bench.kernels.builds import Building
from fastkernels.manifest import Scenario
from fastkernels.results import LeftOut, ScenarioResult

if TYPE_CHECKING:
    from pytest_fastkernels.session import FkSession


COMPILING_S = 3.0
"""Seconds from which on an import or a build is taken to compile."""


class Grader(Protocol):
    """Grades scenarios; made before collection, starts its processes at the first `grade`."""

    device: str
    """`cpu` or `cuda`, once `auto` is resolved."""

    def left_out(self, scenario: Scenario) -> LeftOut | None:
        """Why this machine does not grade the scenario unless it is asked for by token count; None if it does."""

    def grade(self, scenario: Scenario) -> ScenarioResult:
        """Grade one scenario; never raises for what a candidate does."""

    def environment(self) -> dict[str, Any]:
        """Machine, device and versions."""

    def close(self) -> None:
        """End every process."""


def make_grader(fk: "FkSession") -> Grader:
    """Ask other plugins for a grader, then take the library's own."""
    grader: Grader | None = fk.config.hook.pytest_fastkernels_grader(session=fk)
    if grader is not None:
        return grader
    is_live = fk.config.option.capture == "no" and not fk.is_worker
    own = KernelGrader(grader_settings(fk), fk.log_path, live=(lambda text: fk.report.said(text)) if is_live else None)
    if fk.run.collects and not fk.is_controller and not fk.config.option.collectonly:
        own.prepare()  # while the manifest is read
    return own


def shared_with_workers(fk: "FkSession") -> dict[str, str]:
    """Environment variables for xdist's workers, by which they share what takes long to start."""
    return fk.grader.share() if fk.run.collects and isinstance(fk.grader, KernelGrader) else {}


def compiling(fk: "FkSession") -> Building | None:
    """What candidate has been at its import or build for long, in any process of the run; None where none has."""
    found = fk.grader.under_way() if isinstance(fk.grader, KernelGrader) else []
    return found[0] if found and time.time() - found[0].since >= COMPILING_S else None


def grader_settings(fk: "FkSession") -> GraderSettings:
    """The run's options in the library's terms."""
    chosen = fk.settings
    return GraderSettings(
        device=fk.run.device or resolve_device(chosen.device), baseline=chosen.baseline, seed=fk.run.seed,
        timeout_s=chosen.timeout, build_timeout_s=chosen.build_timeout, timing=not chosen.no_timing,
        num_warmup=chosen.num_warmup, num_runs=chosen.num_runs,
        max_time_s=chosen.max_time, min_speedup=chosen.min_speedup, self_test=chosen.self_test,
        allow_passthrough=chosen.allow_passthrough, gates=chosen.gates, sanitize=chosen.sanitize,
        sandbox=chosen.sandbox, env=chosen.env,
        memory_limit_bytes=None if chosen.memory_limit is None else int(chosen.memory_limit * 2**30),
        candidates_dir=chosen.candidates, manifest=chosen.manifest, seqlens=chosen.seqlen,
        dump=chosen.dump)
