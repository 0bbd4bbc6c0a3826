"""Compares two runs, scenario by scenario and operator by operator, for the regression gate and for the page."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fastkernels.report.conditions import machine_differences, notes, pair_differences
from fastkernels.report.formats import plural
from fastkernels.report.significance import Change, change_between, drift, pooled, proven
from fastkernels.results import KernelBenchResult, ScenarioResult, Timing, Verdict, believable

MAX_SLOWDOWN = 0.03
"""By default a time that is 3 % longer is let through."""

ALL_SHAPES = "all shapes"
"""Name of the group that holds the whole operator."""


class Status(StrEnum):
    """What became of a scenario from one run to the other."""

    NEWLY_FAILING = "newly failing"
    """The verdict got worse."""
    SLOWER = "slower"
    """The times say that it is slower by more than the limit."""
    GONE = "gone"
    """Graded before, and not any more."""
    NO_LONGER_TIMED = "no longer timed"
    """Right in both runs, but only the earlier one has times."""
    VERDICT_CHANGED = "verdict changed"
    """It fails in both runs, in different ways."""
    STILL_FAILING = "still failing"
    """It fails in both runs alike."""
    NOT_COMPARABLE = "not comparable"
    """Its shape or what it was timed with is another."""
    NOISY = "noisy"
    """Right in both runs, and the machine was too busy for times in one of them."""
    BASELINE_MOVED = "baseline moved"
    """The speedups differ since the baseline took another time; the candidate's own time does not say so."""
    NEW = "new"
    """Not graded before."""
    NEWLY_PASSING = "newly passing"
    """It failed before, and passes now."""
    FASTER = "faster"
    """The times say that it is faster by more than the limit."""
    SAME = "same"
    """Nothing that the verdict or the times would show."""


FAILURES = (Status.NEWLY_FAILING, Status.SLOWER, Status.GONE, Status.NO_LONGER_TIMED)
"""Each of these fails the comparison."""


@dataclass(frozen=True)
class Pair:
    """One scenario in both runs."""

    base: ScenarioResult | None
    """In the earlier run."""
    new: ScenarioResult | None
    """In the later run."""
    status: Status
    """What became of it."""
    reason: str = ""
    """Why it cannot be compared, why it is gone, or what its failure says."""
    change: Change | None = None
    """Change of its time, where both times can be compared."""

    @property
    def known(self) -> ScenarioResult:
        """The later result, or the earlier one where there is no later."""
        found = self.new or self.base
        assert found is not None
        return found

    @property
    def timings(self) -> tuple[Timing, Timing]:
        """Both times; ValueError where one is absent, which no pair with a change is."""
        before, now = (result.timing if result else None for result in (self.base, self.new))
        if before is None or now is None:
            raise ValueError(f"{self.known.id}: not timed in both runs")
        return before, now


@dataclass(frozen=True)
class Group:
    """The shapes of one operator, or of one of its uses or token counts: what all have in common shows better."""

    op: str
    """Operator."""
    level: int
    """1 to 4."""
    part: str
    """`all shapes`, `variant residual` or `512 tokens`."""
    shapes: int
    """Distinct timed shapes."""
    change: Change
    """Mean change over these."""
    status: Status
    """SLOWER, FASTER or SAME."""

    @property
    def is_whole(self) -> bool:
        """Whether these are all shapes of the operator."""
        return self.part == ALL_SHAPES

    @property
    def name(self) -> str:
        """`rms_norm`, or `rms_norm (512 tokens)`."""
        return self.op if self.is_whole else f"{self.op} ({self.part})"


@dataclass(frozen=True)
class Comparison:
    """Two runs beside each other."""

    base: KernelBenchResult
    """The earlier run."""
    new: KernelBenchResult
    """The later run."""
    pairs: tuple[Pair, ...]
    """Every scenario of either run, by operator, variant, model, TP degree and tokens."""
    groups: tuple[Group, ...]
    """Every operator with at least two timed shapes, and its uses and token counts."""
    max_slowdown: float
    """The limit as a fraction."""
    allow_missing: bool = False
    """Whether a scenario may be gone."""
    differences: tuple[str, ...] = ()
    """What differs between the machines and makes times incomparable."""
    notes: tuple[str, ...] = ()
    """What else differs between the conditions."""
    counts: Counter[Status] = field(default_factory=Counter)
    """Scenarios of each status."""

    @property
    def failures(self) -> list[str]:
        """What fails the comparison, in a few words each; empty where it passes."""
        found = [f"{plural(self.counts[status], 'scenario')} {status}" for status in FAILURES
                 if self.counts[status] and not (status is Status.GONE and self.allow_missing)]
        slow = [group.name for group in self.telling_groups if group.status is Status.SLOWER]
        found += [f"slower in the mean over the shapes: {', '.join(slow)}"] if slow else []
        found += [self.nothing_compared] if self.nothing_compared else []
        return found

    @property
    def nothing_compared(self) -> str:
        """Why the comparison says nothing; empty where it does."""
        common = [pair for pair in self.pairs if pair.base and pair.new]
        if not common:
            return "no scenario is in both files"
        if self.counts[Status.NOT_COMPARABLE] and not any(pair.change for pair in common):
            return "no scenario's times can be compared"
        return ""

    @property
    def telling_groups(self) -> list[Group]:
        """Slower and faster groups, slowest first; parts only where they say something else than their operator."""
        whole = {(group.op, group.level): group for group in self.groups if group.is_whole}
        found = [group for group in self.groups if group.status is not Status.SAME
                 and (group.is_whole or _differs(group, whole[group.op, group.level]))]
        return sorted(found, key=lambda group: -group.change.log_ratio)

    def having(self, status: Status) -> list[Pair]:
        """The scenarios of one status; slower and faster ones with the largest change first."""
        found = [pair for pair in self.pairs if pair.status is status]
        return sorted(found, key=lambda pair: -abs(pair.change.log_ratio) if pair.change else 0.0)

    def distinct(self, status: Status) -> list[tuple[Pair, int]]:
        """The same, each measurement once, with the number of further addresses that it is reported under."""
        groups: dict[object, list[Pair]] = {}
        for i, pair in enumerate(self.having(status)):
            groups.setdefault(measurement(pair) if pair.change else i, []).append(pair)
        return [(group[0], len(group) - 1) for group in groups.values()]


def compare(
    base: KernelBenchResult, new: KernelBenchResult, max_slowdown: float = MAX_SLOWDOWN, *,
    allow_missing: bool = False, across_machines: bool = False,
) -> Comparison:
    """Compare two runs; `max_slowdown` is the fraction by which a time may be longer, 0.03 for 3 %.

    allow_missing: a scenario that only the earlier run has is no failure. across_machines: compare the speedups of
    different GPUs or CPUs too, which otherwise are named and left alone.
    """
    by_device = machine_differences(base, new)
    blocked: dict[str, list[str]] = {} if across_machines else by_device
    paired = _paired(base, new)
    machine = None if across_machines and any(by_device.values()) else _drift(paired)
    pairs = _judged([_pair(*both, blocked, new, machine) for both in paired], max_slowdown)
    seen = {pair.new.device for pair in pairs if pair.base and pair.new}
    differences = [text for device in sorted(seen) for text in by_device.get(device, [])]
    return Comparison(base, new, tuple(pairs), tuple(_groups(pairs, max_slowdown)), max_slowdown, allow_missing,
                      tuple(differences), tuple(notes(base, new)), Counter(pair.status for pair in pairs))


def _paired(
    base: KernelBenchResult, new: KernelBenchResult
) -> list[tuple[ScenarioResult | None, ScenarioResult | None]]:
    """Both results of every address, in the order of the page's tables."""
    before, after = _by_address(map(believable, base.results)), _by_address(map(believable, new.results))
    known = {**before, **after}
    order = sorted(known, key=lambda key: (key[0], known[key].op, known[key].variant, known[key].model, known[key].tp,
                                           known[key].tokens, key[1]))
    return [(before.get(key), after.get(key)) for key in order]


def _by_address(results: Iterable[ScenarioResult]) -> dict[tuple[int, str], ScenarioResult]:
    """Results by level and address; were there two of one address, a failure is what stays."""
    found: dict[tuple[int, str], ScenarioResult] = {}
    for result in results:
        there = found.get((result.level, result.id))
        if there is None or there.verdict.ok:
            found[result.level, result.id] = result
    return found


def _drift(paired: Iterable[tuple[ScenarioResult | None, ScenarioResult | None]]) -> float:
    """The machine's own change from run to run, each measurement counted once."""
    timed = {(before.op, before.level, before.shape_key, before.timing.speedup): (before.timing, now.timing)
             for before, now in paired
             if before and now and before.timing and now.timing and before.shape_key == now.shape_key}
    return drift(list(timed.values()))


def _pair(
    base: ScenarioResult | None, new: ScenarioResult | None, blocked: dict[str, list[str]], run: KernelBenchResult,
    machine: float | None,
) -> Pair:
    """The verdicts first; what is left for the times is called SAME until `_judged` has seen all of them."""
    if new is None:
        assert base is not None
        return Pair(base, None, Status.GONE, next((item.reason for item in run.left_out if item.id == base.id), ""))
    if base is None:
        return Pair(None, new, Status.NEW, new.headline)
    before, after = _rank(base.verdict), _rank(new.verdict)
    if base.verdict.correct and new.verdict.correct and (base.noise or new.noise):
        return Pair(base, new, Status.NOISY, _noise(base, new))
    if after < before:
        return Pair(base, new, Status.NEWLY_FAILING, new.headline)
    if base.shape_key != new.shape_key:
        return Pair(base, new, Status.NOT_COMPARABLE, "another shape")
    if after > before and new.verdict.ok:
        return Pair(base, new, Status.NEWLY_PASSING)
    if not (base.verdict.correct and new.verdict.correct):
        alike = base.verdict is new.verdict
        return Pair(base, new, Status.STILL_FAILING if alike else Status.VERDICT_CHANGED, new.headline)
    return _timed_pair(base, new, blocked, machine)


def _noise(base: ScenarioResult, new: ScenarioResult) -> str:
    """In which run there are no times, and why."""
    return "; ".join(f"{when}: {result.noise.reason}" for when, result in (("before", base), ("now", new))
                     if result.noise)


def _timed_pair(base: ScenarioResult, new: ScenarioResult, blocked: dict[str, list[str]],
                machine: float | None) -> Pair:
    """A scenario that is right in both runs."""
    if base.timing and not new.timing:
        return Pair(base, new, Status.NO_LONGER_TIMED)
    if not new.timing:
        return Pair(base, new, Status.SAME)
    if not base.timing:
        return Pair(base, new, Status.NOT_COMPARABLE, "no times before")
    different = pair_differences(base, new) + blocked.get(new.device, [])
    if different:
        return Pair(base, new, Status.NOT_COMPARABLE, ", ".join(different))
    change = change_between(base.timing, new.timing, machine)
    if change is None:
        return Pair(base, new, Status.NOT_COMPARABLE, "a speedup that is no number")
    return Pair(base, new, Status.SAME, "", change)


def _rank(verdict: Verdict) -> int:
    return 2 if verdict.ok else 1 if verdict.correct else 0


def _judged(pairs: Sequence[Pair], limit: float) -> list[Pair]:
    """The pairs with SLOWER and FASTER told from SAME, each distinct measurement counting once."""
    changes = {key: pair.change for pair in pairs if pair.change and (key := measurement(pair))}
    told = zip(_told_apart(list(changes.values()), limit), changes.values(), strict=True)
    status = dict(zip(changes, [Status.BASELINE_MOVED if found is Status.SAME and change.moved else found
                                for found, change in told], strict=True))
    return [Pair(pair.base, pair.new, status[measurement(pair)], pair.reason, pair.change) if pair.change else pair
            for pair in pairs]


def measurement(pair: Pair) -> tuple[object, ...]:
    """Equal for pairs whose times were measured once and are reported under several addresses."""
    before, now = pair.timings
    return pair.known.op, pair.known.level, pair.known.shape_key, before.speedup, now.speedup


def _told_apart(changes: Sequence[Change], limit: float) -> list[Status]:
    slower = proven([change.chance_slower(limit) for change in changes])
    faster = proven([change.chance_faster(limit) for change in changes])
    return [Status.SLOWER if i in slower else Status.FASTER if i in faster else Status.SAME
            for i in range(len(changes))]


def _differs(part: Group, whole: Group) -> bool:
    """Whether a part got slower or faster where its operator did not, or clearly more so."""
    if part.status is not whole.status:
        return True
    return part.change.low > whole.change.high if part.status is Status.SLOWER else part.change.high < whole.change.low


def _groups(pairs: Sequence[Pair], limit: float) -> list[Group]:
    members: dict[tuple[str, int, str], dict[tuple[object, ...], Change]] = {}
    for pair in pairs:
        if pair.change and pair.status is not Status.BASELINE_MOVED:
            own = pair.known
            for name in (ALL_SHAPES, f"variant {own.variant or 'plain'}", f"{own.tokens:,} tokens"):
                members.setdefault((own.op, own.level, name), {})[measurement(pair)] = pair.change
    whole = {key[:2]: len(shapes) for key, shapes in members.items() if key[2] == ALL_SHAPES}
    kept = {key: list(shapes.values()) for key, shapes in members.items()
            if len(shapes) > 1 and (key[2] == ALL_SHAPES or len(shapes) < whole[key[:2]])}
    changes = [pooled(shapes) for shapes in kept.values()]
    status = _told_apart(changes, limit)
    return [Group(*key, len(shapes), change, found)
            for (key, shapes), change, found in zip(kept.items(), changes, status, strict=True)]
