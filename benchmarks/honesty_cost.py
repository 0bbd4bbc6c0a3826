"""What the honest checks cost: wall time of grading beside that of correctness once plus timing.

    PYTHONPATH=. python3 benchmarks/honesty_cost.py [--device cuda] [--repeats 3]

Grades a fixed set of scenarios against themselves with everything on, and adds up the wall time of every request that
the supervisor makes of its workers. The plain part is what any grader does: import, build, one draw judged, inputs of
timed calls, and the timing itself, on CUDA timed sections and what makes them ready. Everything else counts as honesty,
also requests that this script does not know. The last column of the table says what a part is.
One scenario of another operator goes before and is not counted: in it processes start and peaks are measured.

A round of timed sections is one request. Its answer tells how long both sides ran and how long their outputs were
compared; the watch for an idle device takes WATCH_NS before each section; judging a call that was drawn is taken to
last as long as judging the first draw did. What remains of the round makes its sections ready: fresh inputs, and a
section of each side that is not timed.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.power import scenarios_of
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels.workers import Workers
from fastkernels.bench.timing import describe_environment
from fastkernels.errors import FastKernelsError
from fastkernels.manifest import Scenario

SHAPES = {
    "cpu": ("rms_norm[llama32-1b-tp1-s128]", "silu_and_mul[llama32-1b-tp1-s32]", "linear[llama32-1b-tp1-s8-qkv_proj]",
            "rotary_emb[llama32-1b-tp1-s128]", "embedding[llama32-1b-tp8-s128]", "topk_softmax[qwen3-30b-a3b-tp1-s128]",
            "flash_attn_prefill[llama32-1b-tp8-s512]", "llama_mlp[llama32-1b-tp8-s8]"),
    "cuda": ("rms_norm[llama31-8b-tp1-s2048]", "silu_and_mul[llama31-8b-tp1-s512]",
             "linear[llama31-8b-tp1-s512-qkv_proj]", "rotary_emb[llama31-8b-tp1-s2048]",
             "embedding[llama31-8b-tp8-s512]", "topk_softmax[qwen3-30b-a3b-tp1-s2048]",
             "flash_attn_prefill[llama31-8b-tp1-s2048]", "llama_mlp[llama31-8b-tp1-s512]"),
}
"""Addresses that are graded by default."""

WARM_UP = "gelu_and_mul[gemma3-4b-tp1-s32]"
"""Graded first: an address of none of the others, since a finished result is not made twice."""

PLAIN = "plain: "
"""How the names of parts begin that any grader has."""

BUILT, DRAWN, SETS, ROUNDS = (PLAIN + name for name in (
    "import and build", "one draw", "sets of inputs", "warm-up and timing rounds"))
SECTIONS, READY, OWN_CLOCKS = (PLAIN + name for name in ("timed sections", "sections made ready", "own clocks"))
CALLED, BATCHES, COMPARED = "witness: N and 2N calls", "witness: batches of secret inputs", "sections: outputs compared"
WATCHED, JUDGED, LEFT = "sections: idle device", "sections: drawn calls judged", "sections: what calls have changed"
FLOOR, RELOADED, GATES = "floor: work and peaks", "new weights loaded", "gates"
MORE, AGAIN, AFTER, SWEPT = "further draws", "the same draw again", "call after timing", "sweep of token counts"

WHAT = {
    BUILT: "the candidate is imported and built, the baseline too, weights are laid out",
    DRAWN: "the first draw: inputs, call, reference, judging",
    SETS: "CPU: inputs that timed calls rotate over, in both processes",
    ROUNDS: "CPU: calls that the processes time",
    SECTIONS: "CUDA: both sides' calls on the trusted clock, waking and switching included",
    READY: "CUDA: the runner's build, rooms, captures, fresh inputs, sections that are not timed",
    OWN_CLOCKS: "CUDA: what each side's own process reads of its calls",
    CALLED: "CPU: the supervisor's clock over N and 2N calls",
    BATCHES: "CPU: calls on new inputs, clocked until handed over, some judged",
    COMPARED: "CUDA: all outputs compared within the section, and once more by itself",
    WATCHED: "CUDA: before each section a watch for work of others, WATCH_NS long",
    JUDGED: "CUDA: a call in each of the first rounds judged; taken to last as long as in the first draw",
    LEFT: "CUDA: inputs, weights and the memory beside them compared after timing",
    FLOOR: "least time that the machine allows",
    RELOADED: "a call with other weights",
    GATES: "calls in the ways of an engine",
    MORE: "all draws but the first: other seeds, shapes and hard values",
    AGAIN: "a draw's call made again: the first one in order, the last one between guard bands",
    SWEPT: "small calls at many token counts, all judged",
    AFTER: "CPU: a call on new values in the memory of timed calls",
}
"""What a part is."""

PARTS = {
    "import": BUILT, "prepare": BUILT, "build": BUILT, "keep": SETS, "measure": ROUNDS, "eager": ROUNDS,
    "replay": CALLED, "work": FLOOR, "peaks": FLOOR, "reload": RELOADED, "draw_sweep": SWEPT, "sweep": SWEPT,
    "judge_sweep": SWEPT, "draw_batch": BATCHES, "batch": BATCHES, "judge_batch": BATCHES, "gate": GATES,
    "judge_alone": GATES, "plan_rooms": READY, "open_room": READY, "leave_room": READY, "meet_sides": READY,
    "serve": READY, "end_sections": READY, "round": READY, "read_own_clock": OWN_CLOCKS, "leave_rooms": LEFT,
}
"""Part of a request by its name; those of a call and its judging belong to the draw before them."""

OF_A_DRAW = ("call", "collect", "reserve", "judge")
"""Requests that follow a draw."""


class Account:
    """Seconds by part of what is asked of workers."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._draw = ""
        self._drawn: set[int] = set()
        self._reloaded = False
        self._judge_s = 0.0

    def begin(self) -> None:
        """A scenario begins."""
        self._drawn, self._draw, self._reloaded = set(), "", False

    def part(self, request: Message, of_runner: bool = False) -> str:
        """The part that a request belongs to."""
        do = str(request["do"])
        if of_runner and do == "build":
            return READY
        if do == "draw":
            self._draw = self._of_draw(request)
            return self._draw
        self._reloaded |= do == "reload"
        return self._draw if do in OF_A_DRAW else PARTS.get(do, f"other: {do}")

    def book(self, request: Message, seconds: float, answer: Message | None = None, of_runner: bool = False) -> None:
        """Book what a request took; the answer where there is one."""
        part = self.part(request, of_runner)
        if request["do"] == "judge" and part == DRAWN:
            self._judge_s = seconds
        if request["do"] == "round" and answer is not None:
            for inner, took_s in self._of_round(request, answer).items():
                took_s = min(took_s, seconds)  # an estimate is never more than what there was
                self.seconds[inner] += took_s
                seconds -= took_s
        self.seconds[part] += seconds

    def _of_round(self, request: Message, answer: Message) -> dict[str, float]:
        from fastkernels.bench.isolate.sections.idle import WATCH_NS

        sides = [answer[side] for side in ("baseline", "candidate") if side in answer]
        return {SECTIONS: sum(side["woke_s"] + side["ran_s"] for side in sides),
                COMPARED: sum(side["seen_s"] + side["check_s"] for side in sides),
                WATCHED: len(sides) * WATCH_NS * 1e-9, JUDGED: self._judge_s if sides and request["judge"] else 0.0}

    def _of_draw(self, request: Message) -> str:
        index = request.get("index")
        if request.get("keep"):
            return SETS
        if index is None:
            return AFTER
        if self._reloaded:
            return RELOADED
        again, number = index in self._drawn, len(self._drawn)
        self._drawn.add(index)
        return AGAIN if again else DRAWN if number == 0 else MORE


@contextmanager
def accounted(account: Account) -> Iterator[None]:
    """Book every request to workers meanwhile, failed ones as well.

    Where both sides are asked at once, waiting for the one that is waited for first counts as its.
    """
    originals = {name: getattr(Workers, name) for name in (
        "trusted", "ask_candidate", "candidate_answer", "ask_runner", "runner_answer")}
    asked: list[Message] = []  # of the runner, whose answers come by themselves

    def booked(name: str) -> Any:
        def ask(workers: Workers, *given: Any) -> Message | None:
            asked.extend(given if name == "ask_runner" else ())
            request = given[0] if given else asked[-1]
            started, answer = time.perf_counter(), None
            try:
                answer = originals[name](workers, *given)
                return answer
            finally:
                account.book(request, time.perf_counter() - started, answer, of_runner="runner" in name)
        return ask

    for name in originals:
        setattr(Workers, name, booked(name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(Workers, name, original)


def grade(scenarios: list[Scenario], settings: GraderSettings) -> tuple[Account, float, list[str]]:
    """(seconds by part, wall seconds in all, verdicts that are not `passed`) of grading each once.

    The first only warms up: its verdict counts, its times do not.
    """
    account, wall_s, wrong = Account(), 0.0, []
    with accounted(account), KernelGrader(settings) as grader:
        for number, scenario in enumerate(scenarios):
            if number == 1:
                account.seconds.clear()
                wall_s = 0.0
            account.begin()
            started = time.perf_counter()
            result = grader.grade(scenario)
            wall_s += time.perf_counter() - started
            print(f"{scenario.id}: {result.verdict} {result.wall_s:.2f} s", file=sys.stderr, flush=True)
            if not result.verdict.ok:
                wrong.append(f"{scenario.id}: {result.verdict}: {result.message}")
    return account, wall_s, wrong


def report(parts: Counter[str], wall_s: float, graded: int) -> None:
    """Print the Markdown table: plain parts, honest ones, and the share that they add."""
    plain = {name: s for name, s in parts.items() if name.startswith(PLAIN)}
    base, asked = sum(plain.values()), sum(parts.values())
    own = wall_s - asked
    print("| part | seconds a scenario | of correctness once plus timing | what it is |")
    print("|---|---|---|---|")
    honest = [(name, s) for name, s in parts.items() if name not in plain]
    for name, seconds in (*sorted(plain.items()), *sorted(honest, key=lambda item: -item[1])):
        what = WHAT.get(name, "not known to this script")
        print(f"| {name} | {seconds / graded:.3f} | {seconds / base:.1%} | {what} |")
    print(f"| supervisor itself | {own / graded:.3f} | {own / base:.1%} | what no worker was waited for in |")
    print(f"| **correctness once plus timing** | {base / graded:.3f} | 100 % | all of `{PLAIN.strip()}` |")
    print(f"| **the honest checks add** (supervisor included) | {(wall_s - base) / graded:.3f} | "
          f"{(wall_s - base) / base:.1%} | all others |")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default %(default)s")
    parser.add_argument("--shape", nargs="*", help="addresses (default: eight operators of levels 1 and 2)")
    parser.add_argument("--repeats", type=int, default=3,
                        help="times that all are graded, each in fresh processes (default %(default)s)")
    parser.add_argument("--max-time", type=float, default=GraderSettings.max_time_s,
                        help="seconds of timing a scenario (default %(default)s, the grader's)")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats: 1 or more")
    if options.shape and WARM_UP in options.shape:
        parser.error(f"--shape: {WARM_UP} is graded first, to warm up, and is not counted")
    return options


def main() -> None:
    """Grade and print; exit status 1 where a verdict was not `passed`, whose times are not those of a whole run."""
    options = parse()
    total: Counter[str] = Counter()
    wall_s, failed = 0.0, []
    try:
        scenarios = scenarios_of([WARM_UP, *(options.shape or SHAPES[options.device])])
        for number in range(options.repeats):
            account, seconds, wrong = grade(scenarios, GraderSettings(
                device=options.device, self_test=True, seed=100 + number, max_time_s=options.max_time))
            total, wall_s = total + account.seconds, wall_s + seconds
            failed += wrong
    except (ValueError, FastKernelsError) as error:
        sys.exit(f"error: {error}")
    report(total, wall_s, (len(scenarios) - 1) * options.repeats)
    print("\n".join(f"not passed: {line}" for line in failed))
    print(f"environment: {json.dumps(describe_environment(options.device))}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
