"""What a page and a comparison cost: seconds, megabytes of HTML, and memory.

    cd docs/results; python3 ../../benchmarks/report_cost.py h200-self-level1.json.gz h200-examples.json.gz

Each file is reported in a process of its own, which does nothing before; the page of two runs is that of the file and
itself. The first process on a machine may also build matplotlib's list of fonts.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def main() -> None:
    """Print one row for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="results files")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(args.results[0])))
        return
    print("| results | scenarios | read s | page s | page MB | page of two runs s | MB | compare s | peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in args.results:
        done = subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True, capture_output=True,
                              text=True)
        row = json.loads(done.stdout)
        print(f"| {path.name} | {row['scenarios']:,} | " + " | ".join(
            f"{row[name]:.2f}" for name in ("read_s", "page_s", "page_mb", "two_s", "two_mb", "compare_s"))
            + f" | {row['peak_mib']:.0f} |")


def measured(path: Path) -> dict[str, float]:
    """The figures of one file."""
    from fastkernels.report import compare, page, read_run

    read_s, run = taken(lambda: read_run(path))
    page_s, text = taken(lambda: page([run]))
    two_s, two = taken(lambda: page([run, run]))
    compare_s, _ = taken(lambda: compare(run.result, run.result))
    return {"scenarios": len(run.result.results), "read_s": read_s, "page_s": page_s, "page_mb": megabytes(text),
            "two_s": two_s, "two_mb": megabytes(two), "compare_s": compare_s,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def taken(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of a call, and what it gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def megabytes(text: str) -> float:
    """Size of a text as UTF-8."""
    return len(text.encode()) / 1e6


if __name__ == "__main__":
    main()
