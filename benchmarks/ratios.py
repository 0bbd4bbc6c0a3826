"""Speedups of a results file by operator, and every row whose interval lies below 1.

    pytest --fk-level=1 --fk-self-test --fk-baseline=vllm --fk-output-json=vllm.json      # ours against vLLM's
    PYTHONPATH=. python3 benchmarks/ratios.py vllm.json
"""

import argparse
import statistics
from pathlib import Path

from fastkernels.report import read_run
from fastkernels.results import ScenarioResult


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results file, .json or .json.gz")
    timed = [r for r in read_run(parser.parse_args().results).result.results if r.timing and not r.shared_with]
    if not timed:
        raise SystemExit("nothing was timed")
    print("| operator | shapes | least | median | most | interval below 1 |\n|---|---|---|---|---|---|")
    for op in dict.fromkeys(r.op for r in timed):
        print(row(op, [r for r in timed if r.op == op]))
    for r in sorted(filter(is_slower, timed), key=speedup):
        assert r.timing
        print(f"{r.id}: {speedup(r):.3f} [{r.timing.speedup_low:.3f}, {r.timing.speedup_high:.3f}], baseline "
              f"{r.timing.baseline_s * 1e6:.1f} us, candidate {r.timing.candidate_s * 1e6:.1f} us")


def row(op: str, results: list[ScenarioResult]) -> str:
    """One operator's line."""
    ratios = [speedup(r) for r in results]
    return (f"| {op} | {len(ratios)} | {min(ratios):.2f} | {statistics.median(ratios):.2f} | {max(ratios):.2f} | "
            f"{sum(map(is_slower, results))} |")


def speedup(result: ScenarioResult) -> float:
    """The speedup of a timed result."""
    assert result.timing
    return result.timing.speedup


def is_slower(result: ScenarioResult) -> bool:
    """Whether the whole interval lies below 1."""
    return bool(result.timing and result.timing.speedup_high < 1)


if __name__ == "__main__":
    main()
