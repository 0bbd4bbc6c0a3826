"""What tricks with time claim on CUDA: `python benchmarks/cheat_margin.py --markdown FILE`.

Every adversary of the red team's class `time` holds the same honest Triton kernel, or one that does more. Its true time
is that of the twin `triton_norm`, graded before, between and after. A claim may be short of it by 5 % and 0.2 us.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from redteam.case import Case, all_cases  # noqa: E402  found by the lines above

from fastkernels.bench.kernels import GraderSettings, KernelGrader  # noqa: E402
from fastkernels.bench.timing import describe_environment  # noqa: E402
from fastkernels.manifest import Scenario, load_manifest  # noqa: E402
from fastkernels.results import ScenarioResult  # noqa: E402

MOST, MOST_S = 1.05, 0.2e-6
"""A claim may be as many times too short, and so much besides."""

TWIN = "triton_norm"


@dataclass(frozen=True)
class Row:
    """One adversary at one token count."""

    name: str
    tokens: int
    verdict: str
    claimed_s: float | None
    """None where there is no time."""
    true_s: float

    @property
    def within(self) -> bool:
        """Whether it gains no more than the bound, or nothing."""
        return self.claimed_s is None or self.claimed_s >= self.true_s / MOST - MOST_S


def main() -> int:
    """Grade all; 1 where a claim is beyond the bound, or nothing was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 512, 2048], metavar="N",
                        help="token counts of rms_norm, hidden size 4096 (default 1 512 2048)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write rows as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    args = parser.parse_args()
    cases = {case.name: case for case in all_cases()}
    tricks = [case for case in cases.values() if case.kind == "time"]
    found: dict[str, list[ScenarioResult]] = {}
    order = [cases[TWIN], *tricks[:len(tricks) // 2], cases[TWIN], *tricks[len(tricks) // 2:], cases[TWIN]]
    for number, case in enumerate(order, start=1):
        results = grade(case, args.tokens)
        found.setdefault(case.name, []).extend(results)
        print(f"[{number}/{len(order)}] {case.name}: {', '.join(map(told, results))}", flush=True)
    rows = rows_of(found, args.tokens)
    if args.output:
        plain = {"environment": describe_environment("cuda"), "rows": [asdict(row) for row in rows]}
        args.output.write_text(json.dumps(plain, indent=1))
    if args.markdown:
        args.markdown.write_text(markdown(rows))
    print(markdown(rows))
    beyond = [row for row in rows if not row.within]
    print(f"{len(rows)} claims, {len(beyond)} beyond {MOST} times + {MOST_S * 1e6:.1f} us")
    return 1 if beyond or not rows else 0


def grade(case: Case, tokens: list[int]) -> list[ScenarioResult]:
    """Grade one file at every token count."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"{case.target}.py"
        target.parent.mkdir(parents=True)
        shutil.copyfile(case.path, target)
        with KernelGrader(GraderSettings(device="cuda", candidates_dir=Path(folder))) as grader:
            return [grader.grade(scenario(count)) for count in tokens]


def scenario(tokens: int) -> Scenario:
    """rms_norm of the red team's model `large`."""
    manifest = load_manifest(ROOT / "tests/redteam/manifest.yaml")
    return next(one for one in manifest.scenarios() if (one.op, one.model) == ("rms_norm", "large")).with_tokens(tokens)


def rows_of(found: dict[str, list[ScenarioResult]], tokens: list[int]) -> list[Row]:
    """A row for each adversary and token count; ValueError where the honest kernel has no time."""
    rows = []
    for count in tokens:
        honest = [one.timing.candidate_s for one in found[TWIN] if one.tokens == count and one.timing is not None]
        if not honest:
            raise ValueError(f"{TWIN} has no time at {count} tokens: {', '.join(map(told, found[TWIN]))}")
        rows += [Row(name, count, str(one.verdict), one.timing.candidate_s if one.timing else None, median(honest))
                 for name, results in found.items() if name != TWIN for one in results if one.tokens == count]
    return rows


def told(result: ScenarioResult) -> str:
    """A result in a few words."""
    return f"{result.verdict} {result.timing.candidate_s * 1e6:.2f} us" if result.timing else str(result.verdict)


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = ["| trick | tokens | verdict | claimed us | true us | speed claimed over true |",
             "|---|---|---|---|---|---|"]
    for row in rows:
        claimed = "-" if row.claimed_s is None else f"{row.claimed_s * 1e6:.2f}"
        gain = "-" if row.claimed_s is None else f"{row.true_s / row.claimed_s:.2f}"
        lines.append(f"| {row.name} | {row.tokens} | {row.verdict} | {claimed} | {row.true_s * 1e6:.2f} | {gain}"
                     f"{'' if row.within else ' (beyond the bound)'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
