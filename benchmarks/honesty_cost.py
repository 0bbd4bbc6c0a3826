"""What the honest checks cost: wall time of grading beside that of correctness once plus timing.

    PYTHONPATH=. python3 benchmarks/honesty_cost.py [--device cuda] [--repeats 3]

Grades a fixed set of scenarios against themselves with everything on, and adds up the wall time of every request that
the supervisor makes of its two workers. The plain part is what any grader does: import, build, one draw judged, the
sets of inputs and the timing rounds. Everything else counts as honesty, also requests that this script does not know.
One scenario of another operator goes before and is not counted: in it processes start and peaks are measured.
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

PARTS = {
    "import": PLAIN + "import and build", "prepare": PLAIN + "import and build", "build": PLAIN + "import and build",
    "timer": PLAIN + "sets of inputs", "keep": PLAIN + "sets of inputs",
    "measure": PLAIN + "warm-up and timing rounds", "eager": PLAIN + "warm-up and timing rounds",
    "replay": "witness: N and 2N calls", "work": "floor: work and peaks", "peaks": "floor: work and peaks",
    "share": "same memory", "unshare": "same memory", "reload": "new weights loaded",
    "draw_batch": "witness: batches of secret inputs", "batch": "witness: batches of secret inputs",
    "capture_batch": "witness: batches of secret inputs", "replay_batch": "witness: batches of secret inputs",
    "judge_batch": "witness: batches of secret inputs", "gate": "gates", "judge_alone": "gates",
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

    def begin(self) -> None:
        """A scenario begins."""
        self._drawn, self._draw, self._reloaded = set(), "", False

    def part(self, request: Message) -> str:
        """The part that a request belongs to."""
        do = str(request["do"])
        if do == "draw":
            self._draw = self._of_draw(request)
            return self._draw
        self._reloaded |= do == "reload"
        return self._draw if do in OF_A_DRAW else PARTS.get(do, f"other: {do}")

    def _of_draw(self, request: Message) -> str:
        index = request.get("index")
        if request.get("keep"):
            return PLAIN + "sets of inputs"
        if index is None:
            return "call after timing"
        if self._reloaded:
            return PARTS["reload"]
        again, number = index in self._drawn, len(self._drawn)
        self._drawn.add(index)
        return "the same draw again" if again else PLAIN + "one draw" if number == 0 else "further draws"


@contextmanager
def accounted(account: Account) -> Iterator[None]:
    """Book every request to workers meanwhile, failed ones as well."""
    originals = {name: getattr(Workers, name) for name in ("trusted", "candidate")}

    def booked(name: str) -> Any:
        def ask(workers: Workers, request: Message) -> Message:
            part, started = account.part(request), time.perf_counter()
            try:
                answer: Message = originals[name](workers, request)
                return answer
            finally:
                account.seconds[part] += time.perf_counter() - started
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
    print("| part | seconds a scenario | of correctness once plus timing |")
    print("|---|---|---|")
    honest = [(name, s) for name, s in parts.items() if name not in plain]
    for name, seconds in (*sorted(plain.items()), *sorted(honest, key=lambda item: -item[1])):
        print(f"| {name} | {seconds / graded:.3f} | {seconds / base:.1%} |")
    print(f"| supervisor itself | {own / graded:.3f} | {own / base:.1%} |")
    print(f"| **correctness once plus timing** | {base / graded:.3f} | 100 % |")
    print(f"| **the honest checks add** (supervisor included) | {(wall_s - base) / graded:.3f} | "
          f"{(wall_s - base) / base:.1%} |")


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
