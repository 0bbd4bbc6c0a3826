"""`fastkernels history`: lists tracked runs, the runs of one operator, or each operator's best run."""

import argparse
import dataclasses
import gc
import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastkernels import env
from fastkernels.bench.tracking import EXPERIMENT, TrackedRun, shown_uri, tracker, tracking_uri
from fastkernels.bench.tracking.sqlite_runs import read_runs
from fastkernels.bench.tracking.uri import local_file
from fastkernels.cli import history_tables
from fastkernels.cli.tracked import Best, OpRecord, best_records, device_of, is_self_test, ops_of, records
from fastkernels.errors import SelectionError, TrackingError, did_you_mean, install_command, one_of
from fastkernels.report.formats import plural
from fastkernels.results import json_safe

TIERS = ("kernel", "e2e", "eval", "agent")
LIMIT = 20
"""Runs that are listed unless --limit says otherwise."""
ALL_RUNS = 10_000_000
"""More runs than any store holds: records are looked for in all of them."""
ANSWER_TIMEOUT_S = 10
"""Wait for a server's answer, where MLFLOW_HTTP_REQUEST_TIMEOUT does not say."""
JSON_VERSION = 1
"""Raised when a key of --json changes its meaning or goes."""


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "history",
        help="list tracked runs, or the best run of each operator",
        description="List tracked runs of all tiers, newest first. The store is the one that MLFLOW_TRACKING_URI "
        "names, else that of the working directory.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--op", metavar="NAME", help="only runs that graded or wrote this operator, with what they found")
    parser.add_argument(
        "--best", action="store_true",
        help="the best speedup ever of each operator on each device, among runs whose every scenario of it passed; "
        "looks at all runs, self-tests do not count")
    parser.add_argument("--tier", metavar="TIER", help=f"only runs of this tier: {', '.join(TIERS)}")
    parser.add_argument(
        "--limit", type=int, metavar="N", help=f"list the newest N runs (default: {LIMIT}); not with --best")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/history.md), with whole ids and hashes")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for and return the exit status; SelectionError where there is nothing to print."""
    _check(args)
    if args.best:
        _print_best(args)
    elif args.op:
        found = _records_of(args)[:args.limit or LIMIT]
        _print(args, {"op": args.op, "records": [_record_data(r) for r in found]}, history_tables.of_op(found))
    else:
        runs = _queried(args.tier, args.limit or LIMIT)
        _print(args, {"runs": [dataclasses.asdict(run) for run in runs]}, history_tables.recent(runs))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.tier is not None and args.tier not in TIERS:
        raise SelectionError(f"--tier: {one_of(args.tier, TIERS)}")
    if args.limit is not None and args.limit < 1:
        raise SelectionError(f"--limit: {args.limit} is not a number of runs, 1 or more")
    if args.limit is not None and args.best:
        raise SelectionError("--limit has no effect with --best, which looks at all runs; leave one of them out")


def _print_best(args: argparse.Namespace) -> None:
    found = _records_of(args)
    best = best_records(found)
    left_out = Counter(record.left_out for record in found if record.left_out)
    if not best:
        raise SelectionError(f"no run can be the best: of {plural(len(found), 'record')}, {_counted(left_out)}. A run "
                             "counts when every scenario of the operator passed and was timed, with a candidate in the "
                             "baseline's place")
    runs = len({record.run.run_id for record in found})
    note = [f"chosen among {plural(len(found), 'record')} of operators in {plural(runs, 'run')}"
            + (f"; left out: {_counted(left_out)}" if left_out else "")]
    if history_tables.picked(best):
        note.append("* another run graded more scenarios of the operator; speedups are averages over those graded")
    _print(args, {"best": [_best_data(one) for one in best], "left_out": dict(left_out)},
           [*history_tables.of_best(best), "", *note])


def _records_of(args: argparse.Namespace) -> list[OpRecord]:
    """Records of the operator that was asked for, else of all; SelectionError where no run has any."""
    runs = _queried(args.tier, ALL_RUNS)
    found = records(runs, args.op)
    if found:
        return found
    known = sorted({op for run in runs for op in ops_of(run)})
    if args.op and known:
        raise SelectionError(f"--op: no tracked run{_of_tier(args.tier)} has {args.op!r}{did_you_mean(args.op, known)} "
                             f"Tracked: {', '.join(known)}")
    raise SelectionError(f"{plural(len(runs), 'tracked run')}{_of_tier(args.tier)}, none of which graded or wrote "
                         "an operator")


def _queried(tier: str | None, limit: int) -> list[TrackedRun]:
    """The newest runs of a tier or of all; SelectionError where there are none."""
    if find_spec("mlflow") is None:
        raise TrackingError("tracked runs are kept with mlflow, which is not installed: "
                            f"{install_command('mlflow')}")
    runs = _read(tier or "", limit)
    if runs:
        return runs
    others = Counter(run.tier for run in _read("", ALL_RUNS)) if tier else None
    if others:
        raise SelectionError(f"--tier: no tracked run{_of_tier(tier)}; there are "
                             + ", ".join(f"{count} of {name or 'no tier'}" for name, count in others.most_common()))
    off = "; FASTKERNELS_TRACKING=off is set, with which none is made" if env.tracking_is_off() else ""
    raise SelectionError(
        f"no tracked run in {shown_uri(tracking_uri())} (working directory {Path.cwd()}){off}. Every graded run is "
        "tracked, such as pytest --fk-target=rms_norm; start this command in the directory where runs were made, or "
        "let MLFLOW_TRACKING_URI name their store")


def _read(tier: str, limit: int) -> list[TrackedRun]:
    """The newest runs of a tier, of all for an empty one; a local store is read without MLflow's import."""
    file = local_file(tracking_uri())
    if file is not None and file.exists() and not env.tracking_is_off():
        with suppress(sqlite3.Error):  # laid out as another MLflow does: it is asked itself, or says what is wrong
            return read_runs(file, EXPERIMENT, tier, limit)
    return _queried_by_mlflow(f'tags.tier = "{tier}"' if tier else "", limit)


def _queried_by_mlflow(filter_string: str, limit: int) -> list[TrackedRun]:
    """Query the store without cyclic garbage collection, which costs twice the time of the query where runs are many:
    it walks over MLflow's objects again and again, and all of them live until the end."""
    gc.disable()
    try:
        with env.mlflow_request_limits(ANSWER_TIMEOUT_S, retries=0):  # a person waits, who can try again
            return tracker.query_runs(EXPERIMENT, filter_string, limit)
    finally:
        gc.enable()


def _of_tier(tier: str | None) -> str:
    return f" of tier {tier}" if tier else ""


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def _print(args: argparse.Namespace, data: dict[str, Any], lines: Sequence[str]) -> None:
    if args.json:
        head = {"schema_version": JSON_VERSION, "experiment": EXPERIMENT, "tracking_uri": _address()}
        text = json.dumps(json_safe({**head, **data}), indent=1, allow_nan=False)
    else:
        text = "\n".join(lines)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has had enough; nor shall the end of Python complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _address() -> str:
    """The store's URI, a local one's whole, a server's without user and password."""
    uri = tracking_uri()
    return uri if local_file(uri) else shown_uri(uri)


def _record_data(record: OpRecord) -> dict[str, Any]:
    run = record.run
    return {"op": record.op, "speedup": record.speedup, "error_ratio": record.error_ratio, "passed": record.passed,
            "failed": record.failed, "baseline": record.baseline,
            "kernel_sha256": record.source_sha256 or None, "candidate_sha256": record.graded_sha256 or None,
            "self_test": is_self_test(run),
            "device": device_of(run), "run_id": run.run_id, "run_name": run.name, "tier": run.tier,
            "status": run.status, "started": run.started, "params": run.params}


def _best_data(best: Best) -> dict[str, Any]:
    return {**_record_data(best.record), "chosen_from": best.chosen_from, "most_scenarios": best.most_scenarios}
