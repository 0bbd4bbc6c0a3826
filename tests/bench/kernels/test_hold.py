"""One run at a time has a results file, and the next one learns how it ended."""

import os
import subprocess
import sys
from datetime import datetime

import pytest

from fastkernels.bench.kernels import ResultsInUseError, hold, hold_another, keep_log
from fastkernels.bench.kernels.hold import mark_of


@pytest.fixture
def results(tmp_path):
    return tmp_path / "bench" / "kernels.json"


def test_a_second_run_is_refused_until_the_first_has_ended(results):
    first = hold(results)
    with pytest.raises(ResultsInUseError, match=r"another run \(process \d+ on .*\) writes to kernels.json"):
        hold(results)
    first.release(finished=True)
    hold(results).release(finished=True)
    assert list(results.parent.iterdir()) == []


def ended(results, finished=True):
    """Whether the run before was unfinished, as a run learns that ends as it is told."""
    found = hold(results)
    found.release(finished)
    return found.unfinished


def test_the_next_run_learns_that_one_was_not_finished(results):
    assert [ended(results, finished) for finished in (False, False, True, True)] == [False, True, True, False]


def test_a_run_that_was_killed_holds_nothing(results):
    code = f"import os, pathlib; from fastkernels.bench.kernels import hold; h = hold(pathlib.Path({str(results)!r})); "
    subprocess.run([sys.executable, "-c", code + "os.kill(os.getpid(), 9)"], check=False)
    assert mark_of(results).exists()
    assert ended(results)


def test_another_file_is_one_that_no_run_has_used(results):
    held = [hold(results), hold_another(results)]
    assert held[1].results.name == "kernels-2.json"
    results.with_name("kernels-3.json").write_text("{}")
    results.with_name("kernels-4.jsonl").write_text("")
    held += [hold(results.with_name("kernels-5.json")), hold_another(results)]
    assert held[3].results.name == "kernels-6.json"
    for one in held:
        one.release(finished=True)


def test_logs_are_kept_under_names_of_their_own(tmp_path):
    log = tmp_path / "kernels.jsonl"
    assert keep_log(log) is None
    log.touch()
    assert keep_log(log) is None
    kept = []
    for text in "abc":
        log.write_text(text)
        os.utime(log, (0, 0))
        kept.append(keep_log(log))
    stamp = datetime.fromtimestamp(0).strftime("%Y%m%d-%H%M%S")
    assert [path.name for path in kept] == [f"kernels-{stamp}{more}.jsonl" for more in ("", "-2", "-3")]
    assert [path.read_text() for path in kept] == ["a", "b", "c"]
