"""The text of one failed scenario: finding, worst element, evidence and the command that grades it again."""

import shlex

from fastkernels.bench.kernels.said import printable
from fastkernels.results import ScenarioResult, Verdict

EVIDENCE_LINES = 20
"""Last lines of a traceback or of a worker's output that are shown; the results file holds all of it."""
EVIDENCE_WIDTH = 300
"""Characters of one such line that are shown; a crash lists every extension module on a single line."""


def failure_text(result: ScenarioResult) -> str:
    """Return the lines for pytest's failure section; the first says what is wrong."""
    gates = [f"gate {name} failed: {gate.reason}" for name, gate in result.gates.items() if gate.failed]
    verdict = f"{result.verdict}: {result.message}" if result.message else str(result.verdict)
    lines = gates or [verdict] if result.verdict.ok else [verdict, *gates]
    if result.shared_with:
        lines.append(f"graded as {result.shared_with}, which has the same shapes")
    else:
        lines += _worst(result) if not result.verdict.correct else []
        lines += [f"the call that went wrong: python {shlex.quote(result.dump)}"] if result.dump else []
        lines += [f"candidate: {result.candidate_path}"] if result.candidate_path else []
        lines += _evidence(result.evidence)
    return "\n".join([*lines, f"reproduce: {result.reproduce}"])


def unseen_output(result: ScenarioResult) -> str:
    """What the candidate has printed; empty where its failure shows all of it."""
    shown = {line.strip() for line in failure_text(result).splitlines()}
    return "" if {line.strip() for line in result.output.splitlines()} <= shown else result.output


def _worst(result: ScenarioResult) -> list[str]:
    """The worst element and what is allowed; the tolerance alone where the finding names that element."""
    correctness = result.correctness
    worst = correctness.worst if correctness else None
    if correctness is None or worst is None:
        return []
    if correctness.max_error_ratio <= 1 and result.verdict is not Verdict.WRONG_SCALE:
        return []  # the values are right, something else is wrong
    allowed = f"atol {correctness.atol:g}, rtol {correctness.rtol:g}"
    if f"expected {worst.expected:.6g}, got {worst.got:.6g}" in result.message:
        return [f"allowed: {allowed}"]
    index = ", ".join(str(i) for i in worst.index)
    return [f"worst element: {worst.tensor}[{index}] is {worst.got:.6g}, expected {worst.expected:.6g} "
            f"(error ratio {correctness.max_error_ratio:.3g}, {allowed}, draw {correctness.draw or 'unnamed'})"]


def _evidence(text: str) -> list[str]:
    lines = printable(text).rstrip().splitlines()
    if not lines:
        return []
    cut = [f"... {len(lines) - EVIDENCE_LINES} more lines in the results file"] if len(lines) > EVIDENCE_LINES else []
    return ["evidence:", *(f"    {_cut(line)}" for line in [*cut, *lines[-EVIDENCE_LINES:]])]


def _cut(line: str) -> str:
    return line if len(line) <= EVIDENCE_WIDTH else f"{line[:EVIDENCE_WIDTH]} ... {len(line) - EVIDENCE_WIDTH} more"
