"""Runs the chosen deployment gates on a scenario that was found right; what they find changes no verdict."""

from contextlib import nullcontext

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.gate_choice import chosen_gates
from fastkernels.bench.kernels.pipeline import Attempt
from fastkernels.bench.kernels.workers import CandidateFailedError
from fastkernels.errors import WorkerError
from fastkernels.results import Gate, GateOutcome, GateResult, Verdict

CUDA_GATES = (Gate.STREAM, Gate.NO_SYNC, Gate.CUDA_GRAPH)
"""Gates that only CUDA has."""

NOT_IN_A_GRAPH = "a graph lacks what runs on a stream of its own and what Python decides anew in each call"
"""What is said of a replay that is wrong where plain calls were right."""


OWN_STRIDES = "its model passes slices, and so did every call before"
"""Why `strided` has nothing to add to a scenario."""


def run_gates(attempt: Attempt) -> None:
    """Run each gate once and note what came of it. A gate that ends the candidate's process costs itself only."""
    for gate in chosen_gates(attempt.settings.gates):
        reason = _not_applicable(attempt, gate)
        attempt.found.gates[str(gate)] = (
            GateResult(GateOutcome.NOT_APPLICABLE, reason) if reason else _run(attempt, gate))


def _not_applicable(attempt: Attempt, gate: Gate) -> str:
    if gate in CUDA_GATES and attempt.workers.device != "cuda":
        return "needs CUDA"
    if gate is Gate.NO_SYNC and attempt.scenario.phase != "decode":
        return "prefill: only the decode path must not wait"
    return ""


def _run(attempt: Attempt, gate: Gate) -> GateResult:
    try:
        with attempt.share.throughout():
            _revive(attempt)
            return _judged(attempt, gate)
    except CandidateFailedError as error:
        return _failed(f"{error.verdict}: {error}")
    except WorkerError as error:
        return _failed(f"the harness failed: {error}")


def _revive(attempt: Attempt) -> None:
    """Start the candidate's process again and build the module where a gate before has ended it."""
    workers, scenario = attempt.workers, attempt.scenario
    if workers.trusted_side.process is None:
        raise WorkerError("the trusted worker ended in a gate before")
    if workers.candidate_side.process is None:
        workers.again()
        attempt.candidate({"do": "import", "module": scenario.relative_module, "class_name": scenario.class_name})
        attempt.candidate(attempt.built)


def _judged(attempt: Attempt, gate: Gate) -> GateResult:
    with attempt.share.on_the_device():
        if gate is Gate.CUDA_GRAPH:
            captured = _ask(attempt, gate, attempt.trusted({"do": "draw"}), {"capture": True})
            if "gate_failed" in captured:
                return _failed(str(captured["gate_failed"]))
        drawn = attempt.trusted({"do": "draw", "strided": gate is Gate.STRIDED})
    if gate is Gate.STRIDED and not drawn["strided"]:
        own = any(spec.strides for spec in attempt.scenario.inputs)
        return GateResult(GateOutcome.NOT_APPLICABLE, OWN_STRIDES if own else "no model passes it slices of this shape")
    with nullcontext() if gate is Gate.COMPILE else attempt.share.on_the_device():
        answer = _ask(attempt, gate, drawn, {})
    if "gate_failed" in answer:
        return _failed(str(answer["gate_failed"]))
    with attempt.share.on_the_device():
        if answer.get("slots") is None:
            answer = attempt.collect(answer, drawn["bytes"])
        finding = attempt.trusted({"do": "judge_alone", "answer": answer})["finding"]
    if finding["verdict"] == Verdict.PASSED:
        return GateResult(GateOutcome.PASSED)
    reason = f"{finding['verdict']}: {finding['message']}"
    return _failed(f"{reason}; {NOT_IN_A_GRAPH}" if gate is Gate.CUDA_GRAPH else reason)


def _ask(attempt: Attempt, gate: Gate, drawn: Message, extra: Message) -> Message:
    """Have the candidate called; a process whose device is lost is ended."""
    answer = attempt.candidate({"do": "gate", "gate": str(gate), "inputs": drawn["inputs"], "arenas": drawn["arenas"],
                                **extra})
    if answer.get("poisoned"):
        attempt.workers.candidate_side.close()
    return answer


def _failed(reason: str) -> GateResult:
    return GateResult(GateOutcome.FAILED, reason.partition("\n")[0][:300])
