"""Runs the red team through the public pytest command: `python tests/redteam/run.py [NAME ...]`."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.path.append(str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from redteam import needs, table  # noqa: E402  found by the lines above
from redteam.case import HERE, Case, CaseError, all_cases, select  # noqa: E402
from redteam.project import Outcome, run_case  # noqa: E402

from fastkernels.bench.timing import describe_environment  # noqa: E402
from fastkernels.errors import FastKernelsError  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; 0 where every adversary is caught, every twin accepted and nothing harmed."""
    args = _parser().parse_args(argv)
    try:
        cases = select(all_cases(args.root), args.names, args.kinds)
    except CaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    environment = describe_environment(args.device)

    def write(outcomes: list[Outcome]) -> None:
        if args.output_json:
            table.write(args.output_json, table.to_json(outcomes, environment))
        if args.markdown:
            table.write(args.markdown, table.markdown(outcomes))

    try:
        outcomes = run_all(cases, args.device, args.jobs, write)
    except FastKernelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(outcomes)
    print(f"\n{table.text(outcomes)}\n\n{table.summary(outcomes)}")
    ran = [outcome for outcome in outcomes if not outcome.not_run]
    return 0 if ran and all(outcome.right for outcome in ran) else 1


def run_all(cases: list[Case], device: str, jobs: int, write: Callable[[list[Outcome]], None]) -> list[Outcome]:
    """Run these cases, `jobs` at a time, and return their outcomes in the same order.

    Tells of each, and has what there is so far written: a run that is broken off loses nothing.
    """
    here = needs.available(device)
    outcomes: dict[Case, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="redteam-", ignore_cleanup_errors=True) as scratch, \
            ThreadPoolExecutor(jobs) as pool:
        started = {}
        for case in cases:
            missing = [here[need] for need in case.needs if here[need]]
            if missing:
                outcomes[case] = Outcome(case, not_run=missing[0])
            else:
                started[pool.submit(run_case, case, Path(scratch), device)] = case
        for number, outcome in enumerate(outcomes.values(), start=1):
            print(table.progress(outcome, number, len(cases)), flush=True)
        for future in as_completed(started):
            outcomes[started[future]] = future.result()
            print(table.progress(future.result(), len(outcomes), len(cases)), flush=True)
            write([outcomes[case] for case in cases if case in outcomes])
    return [outcomes[case] for case in cases]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run adversarial candidates and their honest twins through pytest.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases, twins or classes; all where none is given")
    parser.add_argument("--class", dest="kinds", action="append", default=[], metavar="C",
                        help="only this class (several: repetition); `twins` for the honest files")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device to grade on (default cpu)")
    parser.add_argument("--jobs", type=int, choices=range(1, 9), default=1, metavar="N",
                        help="cases at a time, 1 to 8 (default 1); each wants two cores")
    parser.add_argument("--output-json", type=Path, metavar="FILE", help="write every outcome to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to this file")
    parser.add_argument("--root", type=Path, default=HERE, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
