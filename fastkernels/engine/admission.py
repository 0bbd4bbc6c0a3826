"""Refuses to load a model with candidates that a run of the kernel tier has found wrong or not fit for deployment."""

import sys

from fastkernels.errors import DeploymentError
from fastkernels.registry import Candidates, ImportGraph, Overlay
from fastkernels.results import KernelBenchResult, ScenarioResult


def refuse_unfit(result: KernelBenchResult, tasks: str, module: str) -> None:
    """Raise DeploymentError that lists every candidate which `module`, such as `L4.llama`, reaches and which is unfit.

    tasks: package root of the task tree; only an installed overlay has candidates. Unfit is what failed a deployment
    gate or has another verdict than passed or too_slow, and what the run has not graded as the file is now.
    """
    overlays = [finder for finder in sys.meta_path if isinstance(finder, Overlay)]
    overlay = next((overlay for overlay in overlays if overlay.package == tasks), None)
    if overlay is None or overlay.tasks.candidates is None:
        return
    candidates = Candidates.load(overlay.tasks.candidates)
    graph = ImportGraph.of(overlay.tasks.baseline, candidates)
    known = {**candidates.helpers, **candidates.files}
    graded = {kernel.sha256 for kernel in result.kernels}
    lines = []
    for name in sorted(graph.reaches(module)):
        if known[name].sha256 not in graded or not _reads_the_same(name, graph, result):
            lines.append(f"{name}: {known[name].path} was not graded as it is now")
        else:
            lines += _findings(name, result)
    if lines:
        raise DeploymentError(f"{len(lines)} reason{'s' if len(lines) > 1 else ''} not to load {module} with the "
                              f"candidates in {overlay.tasks.candidates}:\n  " + "\n  ".join(lines))


def _reads_the_same(name: str, graph: ImportGraph, result: KernelBenchResult) -> bool:
    """Whether the run graded this candidate with the helpers and the files beside it that are there now.

    By its own hash, or by that of an operator above it where it was graded there. True for a run that tells no hashes.
    """
    hashes = {item.candidate_sha256 for item in result.results if item.candidate_sha256 and name in item.replaced}
    return not hashes or any(graph.sha256(user) in hashes for user in graph.users(name))


def _findings(name: str, result: KernelBenchResult) -> list[str]:
    """What the run found against a candidate: each verdict and gate once, with its first scenario.

    A scenario of a higher level counts against its own candidate, or against all that it reaches where it has none.
    """
    found: dict[str, str] = {}
    for item in result.results:
        if name not in _blamed(item):
            continue
        if not item.verdict.correct:
            found.setdefault(str(item.verdict), f"{name}: {item.verdict} in {item.id}: {item.headline}")
        for gate, outcome in item.gates.items():
            if outcome.failed:
                found.setdefault(f"gate {gate}", f"{name}: gate {gate} failed in {item.id}: {outcome.reason}")
    return list(found.values())


def _blamed(item: ScenarioResult) -> tuple[str, ...]:
    own = f"L{item.level}.{item.op}"
    return (own,) if own in item.replaced else item.replaced
