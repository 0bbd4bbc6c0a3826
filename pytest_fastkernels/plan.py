"""What one run grades: the manifest's scenarios, the options' filters and the candidates' reach, brought together."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastkernels.errors import FastKernelsError, system_error
from fastkernels.manifest import Scenario, Selection, load_manifest
from fastkernels.registry import Candidates, ImportGraph, baseline_root, subsumed
from fastkernels.results import KernelSource, LeftOut, ScenarioResult, Subsumed
from pytest_fastkernels.options import Settings

LeftOutRule = Callable[[Scenario], LeftOut | None]
"""Says why a scenario is not graded on this machine, or None."""


@dataclass(frozen=True)
class Plan:
    """The scenarios of one run, before pytest's own filters such as -k."""

    manifest: Path
    """The manifest that was read."""
    scenarios: tuple[Scenario, ...]
    """Every selected scenario, those left out among them."""
    left_out: Mapping[str, str]
    """Reason by address for selected scenarios that this machine does not grade."""
    candidates_directory: Path | None
    """Where the candidates lie; None where there is no directory."""
    candidates: tuple[str, ...]
    """Candidate modules, such as `L1.rms_norm`."""
    subsumed: tuple[Subsumed, ...]
    """Candidates that no selected scenario reaches."""
    self_test: bool
    """True where the baseline itself is graded."""
    sources: Mapping[str, tuple[KernelSource, ...]]
    """Candidate files as they were read, by the hash over those that one operator's module is made of."""

    @property
    def graded(self) -> tuple[Scenario, ...]:
        """The scenarios that will be graded."""
        return tuple(scenario for scenario in self.scenarios if scenario.id not in self.left_out)

    def kernels(self, results: Iterable[ScenarioResult]) -> tuple[KernelSource, ...]:
        """The files that these results were graded with; those of a file changed since are not known and left out."""
        hashes = {result.candidate_sha256: None for result in results if result.candidate_sha256}
        known = self.sources
        if not known.keys() >= hashes.keys():  # edited while the run went on
            known = {**known, **self._sources_now()}
        found = {(file.path, file.sha256): file for sha256 in hashes for file in known.get(sha256, ())}
        return tuple(sorted(found.values(), key=lambda file: (file.level, file.op)))

    def _sources_now(self) -> dict[str, tuple[KernelSource, ...]]:
        try:
            graph = ImportGraph.of(baseline_root(), Candidates.load(self.candidates_directory))
        except FastKernelsError:  # the directory is gone or spoilt; what was graded stays as it is
            return {}
        return _sources(graph, {scenario.relative_module for scenario in self.scenarios})


def selection_of(settings: Settings) -> Selection:
    """The filters of these settings."""
    return Selection(targets=settings.target, levels=settings.level, models=settings.model, tps=settings.tp,
                     seqlens=settings.seqlen, categories=settings.category)


def make_plan(settings: Settings, addresses: Collection[str], left_out: Mapping[str, str] | LeftOutRule) -> Plan:
    """Bring manifest, filters, addresses and candidates together; UsageError where nothing is left to grade.

    `left_out` is the rule of this machine, or what another process found by it.
    """
    try:
        manifest = load_manifest(settings.manifest)
        scenarios = manifest.scenarios(selection_of(settings))
        candidates = Candidates.load(settings.candidates)
        graph = ImportGraph.of(baseline_root(), candidates)
    except FastKernelsError as error:
        raise pytest.UsageError(str(error)) from error
    except OSError as error:
        raise pytest.UsageError(system_error(error)) from error
    if addresses:
        scenarios = _addressed(scenarios, addresses)
    modules = tuple(candidates.files)
    if settings.candidates is not None and not modules and not settings.self_test:
        raise pytest.UsageError(f"{settings.candidates} holds no candidate; expected files such as L1/rms_norm.py, "
                                "or --fk-self-test to grade the baseline itself")
    self_test = settings.self_test or not modules
    if not self_test:
        scenarios = _affected(scenarios, settings, modules, graph, candidates.directory)
    graded_modules = {scenario.relative_module for scenario in scenarios}
    plan = Plan(
        manifest=manifest.path, scenarios=tuple(scenarios),
        left_out=_left_out(scenarios, addresses, left_out) if callable(left_out) else left_out,
        candidates_directory=candidates.directory, candidates=modules,
        subsumed=() if self_test else tuple(subsumed(graph, candidates, graded_modules)), self_test=self_test,
        sources={} if self_test else _sources(graph, graded_modules))
    if not plan.graded:
        reason = next(iter(plan.left_out.values()))
        raise pytest.UsageError(f"all {len(scenarios)} selected scenarios are left out, the first because: {reason}")
    return plan


def _sources(graph: ImportGraph, modules: Iterable[str]) -> dict[str, tuple[KernelSource, ...]]:
    return {sha256: graph.sources(module) for module in modules if (sha256 := graph.sha256(module))}


def _addressed(scenarios: list[Scenario], addresses: Collection[str]) -> list[Scenario]:
    known = {scenario.id: scenario for scenario in scenarios}
    for address in addresses:
        if address not in known:
            close = difflib.get_close_matches(address, known, n=3)
            nearest = f"; nearest: {', '.join(close)}" if close else ""
            raise pytest.UsageError(f"{address}: no such scenario is selected{nearest}")
    return [known[address] for address in dict.fromkeys(addresses)]


def _affected(scenarios: list[Scenario], settings: Settings, modules: tuple[str, ...], graph: ImportGraph,
              directory: Path | None) -> list[Scenario]:
    reached = {module: bool(graph.reaches(module)) for module in {s.relative_module for s in scenarios}}
    affected = [scenario for scenario in scenarios if reached[scenario.relative_module]]
    with_candidate = sorted({scenario.op for scenario in affected})
    lacking = [name for name in settings.target if name not in with_candidate]
    if affected and not lacking:
        return affected
    close = difflib.get_close_matches(lacking[0], with_candidate, n=1) if lacking else []
    nearest = f". Did you mean {close[0]!r}?" if close else ""
    what = f"--fk-target: {lacking[0]} has" if lacking else "the selected operators have"
    raise pytest.UsageError(f"{what} no candidate in {directory}, which holds {', '.join(modules)}{nearest} "
                            "(--fk-self-test grades the baseline itself)")


def _left_out(scenarios: list[Scenario], addresses: Collection[str], rule: LeftOutRule) -> dict[str, str]:
    found = [rule(scenario) for scenario in scenarios if scenario.id not in addresses]
    return {left.id: left.reason for left in found if left}
