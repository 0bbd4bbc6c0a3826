"""Runs a call of a candidate that was found right under compute-sanitizer; each tool is a gate of its own."""

import tempfile
from dataclasses import replace
from pathlib import Path

from fastkernels.bench.isolate import sanitizer
from fastkernels.bench.isolate.process import WorkerEndedError, WorkerProcess
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sandbox import find_sandbox
from fastkernels.bench.kernels.locks import work_section
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.spare import START_TIMEOUT_S
from fastkernels.results import GateOutcome, GateResult

DEVICES = ("cuda",)
"""Where the tools see anything."""

SLOWER = 10
"""Times longer that a request may take: instrumented kernels are slow."""

LEAVE_S = 20.0
"""How long the tool may take to write its summary."""


def run_sanitizers(attempt: Attempt) -> None:
    """Run each tool that was asked for and note what came of it."""
    for tool in attempt.settings.sanitize:
        if attempt.workers.device not in DEVICES:
            result = GateResult(GateOutcome.NOT_APPLICABLE, "needs CUDA")
        else:
            with work_section(attempt.workers.device) as waited_s:
                attempt.found.waited_s += waited_s
                result = _run(attempt, tool)
        attempt.found.gates[tool] = result


def _run(attempt: Attempt, tool: str) -> GateResult:
    program = sanitizer.find()
    assert program is not None  # GraderSettings asks
    drawn = attempt.trusted({"do": "draw", "index": attempt.draws - 1})
    with tempfile.TemporaryDirectory(prefix="fastkernels-sanitizer-") as folder:
        log = Path(folder) / "log.txt"
        trouble = _call(attempt, drawn, sanitizer.command(program, tool, log))
        text = log.read_text(errors="replace") if log.exists() else ""
    finding = sanitizer.first_finding(text)
    if finding:
        return _failed(finding)
    if trouble or finding is None:
        return _failed(f"no finding, since the run did not end: {trouble or 'the log has no summary'}")
    return GateResult(GateOutcome.PASSED)


def _call(attempt: Attempt, drawn: Message, under: list[str]) -> str:
    """Import, build and call the candidate once in a process under the tool; what went wrong, or ''."""
    workers, scenario, settings = attempt.workers, attempt.scenario, attempt.settings
    sandbox = replace(find_sandbox(settings.sandbox, workers.device), tcp=True)  # the tool speaks to itself over it
    directory = workers.candidates_dir
    process = WorkerProcess("candidate", workers.device, workers.open_arenas(), sandbox, workers.hidden,
                            settings.disk_limit_bytes, under=under)
    hello: Message = {"do": "hello", "candidates": None if directory is None else str(directory),
                      "allow_passthrough": settings.allow_passthrough, "memory_limit_bytes": None}
    requests: tuple[Message, ...] = (
        {"do": "import", "module": scenario.relative_module, "class_name": scenario.class_name}, attempt.built,
        {"do": "call", "inputs": drawn["inputs"], "arenas": drawn["arenas"]})
    try:
        reply = process.request(hello, START_TIMEOUT_S)
        for request in requests:
            if "verdict" in reply or "error" in reply:
                break
            reply = process.request(request, SLOWER * settings.timeout_s)
        process.leave(LEAVE_S)
        return str(reply.get("message") or reply.get("error") or "")
    except WorkerEndedError as error:
        return f"{error.verdict}: {error.message}"
    finally:
        process.close()


def _failed(reason: str) -> GateResult:
    return GateResult(GateOutcome.FAILED, reason.partition("\n")[0][:300])
