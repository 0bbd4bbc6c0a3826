"""One case in a directory of its own: the public pytest command on it, what it left behind, and what came of it."""

import contextlib
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from redteam.case import HERE, RESTS_ON_TIMES, Case, CaseError

import fastkernels
from fastkernels.bench.isolate import launch
from fastkernels.cli.kernels import plugin_is_installed
from fastkernels.errors import FastKernelsError
from fastkernels.manifest import Manifest, Scenario, Selection, load_manifest
from fastkernels.results import ScenarioResult, Verdict, read_result

MANIFEST = HERE / "manifest.yaml"
SECOND = "L1/moe_sum"
"""The operator whose honest candidate is graded after every case."""
DEFAULTS = {"--fk-model": "tiny"}
TIMING = {"--fk-num-warmup": "4", "--fk-num-runs": "20", "--fk-max-time": "0.3"}
"""Options of every run, and of runs with timing, where a case does not give them itself."""
LIMIT_S = 120.0
"""Longest that one run of pytest may take."""
DYING_S = 3.0
"""How long a process that is killed with its parent may take to be gone: each of a chain waits for the one before."""
MARK = "FASTKERNELS_REDTEAM"
"""Environment variable by which a run's processes are found again."""


@dataclass(frozen=True)
class Outcome:
    """What one run of pytest on a case gave."""

    case: Case
    """The case."""
    given: tuple[Verdict, ...] = ()
    """Verdicts of its scenarios."""
    messages: tuple[str, ...] = ()
    """What the verdicts say."""
    noise: tuple[str, ...] = ()
    """Of each scenario, why the machine was too busy to time it; empty where it was not."""
    speedups: tuple[float, ...] = ()
    """Claimed speedups of the scenarios that were timed."""
    seconds: float = 0.0
    """To the verdict, the longest of its scenarios; 0 where there is none."""
    next_passed: bool = False
    """Whether the honest scenario after it passed, however fast a case's options want it."""
    next_finding: str = ""
    """What was found there."""
    problems: tuple[str, ...] = ()
    """Whatever else is not as it must be: lost scenarios, an exit code, changed files, processes left."""
    not_run: str = ""
    """Why it was not run; empty where it was."""
    undecided: str = ""
    """Why its verdict says nothing of the harness (`quiet.py`); empty where it does."""
    first: tuple[Verdict, ...] = ()
    """Verdicts of a run before, which refused an adversary otherwise than expected."""
    run_s: float = 0.0
    """Seconds of the whole run."""
    output: str = ""
    """The end of what pytest printed."""

    @property
    def accepted(self) -> bool:
        """Whether any of its scenarios passed, and with a speedup that it does not have where that is the trick."""
        timed = self.case.kind in RESTS_ON_TIMES
        passed = any(verdict.ok and not (timed and noise) for verdict, noise in self.findings)
        return passed and not self.gains_nothing

    @property
    def findings(self) -> list[tuple[Verdict, str]]:
        """Verdict and noise of each scenario."""
        return list(zip(self.given, self.noise or ("",) * len(self.given), strict=True))

    @property
    def gains_nothing(self) -> bool:
        """Whether its speedups are within what the case says that it has in truth."""
        most = self.case.most_speedup
        return most is not None and all(speedup <= most for speedup in self.speedups)

    @property
    def as_expected(self) -> bool:
        """Whether every verdict is one of those expected, for a twin PASSED."""
        return bool(self.given) and all(verdict in self.case.expect or (verdict.ok and self.gains_nothing)
                                        for verdict in self.given)

    @property
    def refused_otherwise(self) -> bool:
        """Whether it is an adversary, refused and harmless, and all that is wrong is that the verdict is another."""
        refused = bool(self.given) and not any(verdict.ok for verdict in self.given)
        harmless = self.next_passed and not self.problems
        return refused and harmless and not (self.case.is_twin or self.as_expected)

    @property
    def right(self) -> bool:
        """Whether nothing at all is wrong with this run."""
        return not self.not_run and self.as_expected and self.next_passed and not self.problems


def run_case(case: Case, scratch: Path, device: str) -> Outcome:
    """Grade one case in a new directory below `scratch`; what it does to the harness is in `Outcome.problems`."""
    directory = _directory(case, scratch)
    _lay_out(case, directory)
    operators, scenarios = _operators(case), _scenarios(case)
    before = _hashes(directory)
    started = time.monotonic()
    status, output = _pytest(case, directory, scratch, device)
    run_s = time.monotonic() - started
    problems = [*_left_running(directory), *_changes(before, _hashes(directory))]
    try:
        results = list(read_result(directory / "out.json").results)
    except FastKernelsError as error:
        return Outcome(case, problems=(*problems, f"no results: {error}"), run_s=run_s, output=output)
    own = [result for result in results if result.op in operators]
    second = [result for result in results if result.op == _stem(SECOND)]
    problems += _lost(scenarios, results)
    due = 0 if own and all(result.verdict.ok for result in own) else 1
    if status != due:
        problems.append(f"pytest's exit code is {status}, not {due} as its verdicts have it")
    if own and second and results.index(second[0]) < results.index(own[-1]):
        problems.append("the honest scenario was not graded after it")
    return Outcome(case, given=tuple(result.verdict for result in own), run_s=run_s, output=output,
                   messages=tuple(result.message for result in own),
                   noise=tuple(result.noise.reason if result.noise else "" for result in own), problems=tuple(problems),
                   speedups=tuple(result.timing.speedup for result in own if result.timing is not None),
                   seconds=max((result.wall_s for result in own), default=0.0),
                   next_passed=bool(second) and all(result.verdict.correct for result in second),
                   next_finding="; ".join(f"{result.verdict}: {result.message}" for result in second))


def _directory(case: Case, scratch: Path) -> Path:
    """A name of its own for each run of a case."""
    names = (f"{case.kind}-{case.name}{again}" for again in ("", *(f"-{number}" for number in range(2, 100))))
    return next(scratch / name for name in names if not (scratch / name).exists())


def _lay_out(case: Case, directory: Path) -> None:
    candidate = directory / "candidates" / f"{case.target}.py"
    candidate.parent.mkdir(parents=True)
    shutil.copyfile(case.path, candidate)
    second = directory / "candidates" / f"{SECOND}.py"
    if second.exists():
        raise CaseError(f"{case.name}: target: {SECOND} is what is graded after every case")
    second.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "second" / f"{SECOND}.py", second)
    shutil.copyfile(MANIFEST, directory / "redteam.yaml")


def _operators(case: Case) -> list[str]:
    """The manifest's names of what the target's file holds."""
    module = case.target.replace("/", ".")
    entries = _manifest().scenarios(Selection())
    found = list(dict.fromkeys(scenario.op for scenario in entries if scenario.relative_module == module))
    if not found:
        raise CaseError(f"{case.name}: target: {case.target} has no scenario in {MANIFEST.name}")
    return found


def _scenarios(case: Case) -> list[Scenario]:
    """What the run must have results of."""
    options = _options(case)
    selection = Selection(targets=(*_operators(case), _stem(SECOND)), models=tuple(options["--fk-model"].split(",")))
    return _manifest().scenarios(selection)


@cache
def _manifest() -> Manifest:
    return load_manifest(MANIFEST)


def _options(case: Case) -> dict[str, str]:
    """The run's options; flags have an empty value."""
    own = dict(option.partition("=")[::2] for option in case.options)
    timing = {} if "--fk-no-timing" in own else TIMING
    return {**DEFAULTS, **timing, **own}


def _pytest(case: Case, directory: Path, scratch: Path, device: str) -> tuple[int | None, str]:
    """Run the public command; its exit code (None where it ran past the limit) and the end of its output."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
               *([] if plugin_is_installed() else ["-p", "pytest_fastkernels.plugin"]),
               f"--fk-target={','.join((*_operators(case), _stem(SECOND)))}", "--fk-candidates=candidates",
               "--fk-manifest=redteam.yaml", "--fk-output-json=out.json", f"--fk-device={device}",
               *(f"{name}={value}" if value else name for name, value in _options(case).items())]
    (scratch / "tmp").mkdir(exist_ok=True)
    root = Path(fastkernels.__file__).resolve().parents[1]
    environment = {**os.environ, **launch.share(), "FASTKERNELS_TRACKING": "off", "TMPDIR": str(scratch / "tmp"),
                   "FASTKERNELS_CACHE_DIR": str(scratch / "cache"), MARK: directory.name,
                   "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # pytest would compile its plugins again, a second each time
    with (directory / "output.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status: int | None = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return status, (directory / "output.txt").read_text(errors="replace")[-6000:]


def _left_running(directory: Path) -> list[str]:
    """Processes that outlived the run by more than the moment that dying with it takes; they are ended."""
    deadline = time.monotonic() + DYING_S
    while (left := _marked(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    return [f"{len(left)} processes outlived the run"] if left else []


def _marked(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get(MARK) == directory.name and process.pid != os.getpid():
                found.append(process)
    return found


def _hashes(directory: Path) -> dict[str, str]:
    """What no candidate may change: the packages, what Python loads at its start, the manifest, candidates' files."""
    root = Path(fastkernels.__file__).resolve().parents[1]
    folders = [root / name for name in ("fastkernels", "pytest_fastkernels", "tasks", "manifests", "agent")]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    site = Path(sysconfig.get_path("purelib"))
    files += [*site.glob("*.pth"), *site.glob("*.py"), root / "conftest.py", directory / "redteam.yaml",
              *sorted((directory / "candidates").rglob("*.py")),
              *sorted((directory.parent / "cache").rglob("*"))]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
            if path.is_file() and not (path.suffix == ".pyc" and _is_stale(path))}


def _is_stale(byte_code: Path) -> bool:
    """Whether Python would write this file of byte code anew: its source has gone, or has another time or size."""
    source = byte_code.parent.parent / f"{byte_code.name.partition('.')[0]}.py"
    try:
        header, found = byte_code.read_bytes()[:16], source.stat()
    except FileNotFoundError:
        return True
    return header[8:16] != struct.pack("<II", int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def _changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line for each file that the run changed, removed or, but for byte code and the measured peaks, added."""
    lost = [f"{path} is changed or gone" for path, value in before.items() if after.get(path) != value]
    added = [f"{path} is new" for path in after.keys() - before.keys()
             if "__pycache__" not in path and "/cache/" not in path]
    return sorted(lost + added)


def _lost(scenarios: list[Scenario], results: list[ScenarioResult]) -> list[str]:
    found = [result.id for result in results]
    lost = [scenario.id for scenario in scenarios if scenario.id not in found]
    twice = sorted({name for name in found if found.count(name) > 1})
    surplus = sorted(set(found) - {scenario.id for scenario in scenarios})
    return ([f"no result of {name}" for name in lost] + [f"two results of {name}" for name in twice]
            + [f"a result of {name}, which was not selected" for name in surplus])


def _stem(target: str) -> str:
    return target.rpartition("/")[2]
