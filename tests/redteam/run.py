"""Runs the red team through the public pytest command: `python tests/redteam/run.py [NAME ...]`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.path.append(str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from redteam import needs, sample, table  # noqa: E402  found by the lines above
from redteam.case import HERE, Case, CaseError, all_cases, select  # noqa: E402
from redteam.project import Outcome, run_case  # noqa: E402
from redteam.quiet import is_timed, run_until_decided  # noqa: E402

from fastkernels.bench.timing import describe_environment  # noqa: E402
from fastkernels.errors import FastKernelsError  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; 0 where every adversary is caught, every twin accepted and nothing harmed."""
    args = _parser().parse_args(argv)
    try:
        cases = _choose(args)
    except CaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(f"{case.kind}/{case.name}" for case in cases))
        return 0
    environment = describe_environment(args.device)

    def write(outcomes: list[Outcome]) -> None:
        if args.output_json:
            table.write(args.output_json, table.to_json(outcomes, environment))
        if args.markdown:
            table.write(args.markdown, table.markdown(outcomes))

    try:
        outcomes = run_all(cases, args.device, args.jobs or _jobs(args.device), write)
    except FastKernelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(outcomes)
    print(f"\n{table.text(outcomes)}\n\n{table.summary(outcomes)}")
    return exit_status(outcomes)


def exit_status(outcomes: list[Outcome]) -> int:
    """0 where something was run and nothing that was decided is wrong."""
    ran = [outcome for outcome in outcomes if not outcome.not_run]
    return 0 if ran and all(outcome.right or outcome.undecided for outcome in ran) else 1


def run_all(cases: list[Case], device: str, jobs: int, write: Callable[[list[Outcome]], None]) -> list[Outcome]:
    """Run these cases and return their outcomes in the same order.

    Those without timing `jobs` at a time, then the others one by one. Tells of each, and has what there is so far
    written: a run that is broken off loses nothing.
    """
    here = needs.available(device)
    outcomes: dict[Case, Outcome] = {}
    for case in cases:
        missing = [here[need] for need in case.needs if here[need]]
        if missing:
            outcomes[case] = Outcome(case, not_run=missing[0])
    for number, outcome in enumerate(outcomes.values(), start=1):
        print(table.progress(outcome, number, len(cases)), flush=True)
    with tempfile.TemporaryDirectory(prefix="redteam-", ignore_cleanup_errors=True) as scratch:
        for outcome in _outcomes([case for case in cases if case not in outcomes], Path(scratch), device, jobs):
            outcomes[outcome.case] = outcome
            print(table.progress(outcome, len(outcomes), len(cases)), flush=True)
            write([outcomes[case] for case in cases if case in outcomes])
    return [outcomes[case] for case in cases]


def _outcomes(cases: list[Case], scratch: Path, device: str, jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come: a case whose times count has the machine to itself."""
    with ThreadPoolExecutor(jobs) as pool:
        untimed = [pool.submit(_run, case, scratch, device) for case in cases if not is_timed(case)]
        for future in as_completed(untimed):
            yield future.result()
    for case in filter(is_timed, cases):
        yield _run(case, scratch, device)


def _run(case: Case, scratch: Path, device: str) -> Outcome:
    """Run a case; once more where it was refused otherwise than expected, which the summary then tells.

    Whoever is refused has gained nothing, so a second run excuses no kernel that was accepted, and no twin.
    """
    run = partial(run_until_decided, partial(run_case, case, scratch, device), _tell)
    outcome = run()
    if not outcome.refused_otherwise:
        return outcome
    _tell(f"{table.wrong_line(outcome)}: once more")
    return replace(run(), first=outcome.given)


def _tell(line: str) -> None:
    print(line, flush=True)


def _choose(args: argparse.Namespace) -> list[Case]:
    """The cases that the command line asks for; says why those of a sample are chosen."""
    cases = select(all_cases(args.root), args.names, args.kinds)
    if args.sample is None and args.changed is None:
        return cases
    choices = [] if args.sample is None else [sample.sample(cases, args.sample)]
    choices += [] if args.changed is None else [sample.changed(cases, args.changed)]
    for choice in choices:
        _tell(choice.why)
    chosen = [case for case in cases if any(case in choice.cases for choice in choices)]
    _tell(f"chosen: {len(chosen)} of {len(cases)} files")
    if not chosen:
        raise CaseError("no case is selected: none has changed or is touched")
    return chosen


def _jobs(device: str) -> int:
    """Two untimed cases at a time where there are two cores for them; on a GPU one, for its memory."""
    return 2 if device == "cpu" and len(os.sched_getaffinity(0)) >= 2 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run adversarial candidates and their honest twins through pytest.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases, twins or classes; all where none is given")
    parser.add_argument("--class", dest="kinds", action="append", default=[], metavar="C",
                        help="only this class (several: repetition); `twins` for the honest files")
    parser.add_argument("--sample", metavar="COMMIT",
                        help="the quarter of these that is the commit's turn: any four consecutive commits run all")
    parser.add_argument("--changed", metavar="BASE",
                        help="those that changed since this commit, and the classes of the code that did; `auto`: "
                        "since HEAD left origin/main, on main itself since a day before HEAD; with --sample both")
    parser.add_argument("--list", action="store_true", help="print the chosen cases and run nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device to grade on (default cpu)")
    parser.add_argument("--jobs", type=int, choices=range(1, 9), metavar="N",
                        help="cases without timing at a time, 1 to 8 (default 2 on a CPU of two cores, else 1); those "
                        "with timing run alone")
    parser.add_argument("--output-json", type=Path, metavar="FILE", help="write every outcome to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to this file")
    parser.add_argument("--root", type=Path, default=HERE, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
