"""The bell between two processes; here its side is a thread, which sees the same words."""

import os
import threading

import pytest

from fastkernels.bench.isolate.files import create_file
from fastkernels.bench.isolate.sections.bell import Bell, LateError


@pytest.fixture
def bells():
    fd = create_file()
    yield Bell(fd), Bell(fd)
    os.close(fd)


@pytest.fixture
def serve(bells):
    """Starts a side; ends it with the test."""
    threads, found = [], []

    def start(section):
        def run():
            try:
                found.append(bells[1].serve(section))
            except RuntimeError as error:
                found.append(error)
        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return found
    yield start
    bells[0].end()
    for thread in threads:
        thread.join(10)


def alive():
    return True


def test_sections_run_one_by_one_as_they_are_rung(bells, serve):
    ran = []
    found = serve(lambda: ran.append(len(ran)) or [7, 2**40 + len(ran)])
    ours = bells[0]
    for number in (1, 2, 3):
        ours.wait_ready(number, 10, alive)
        assert len(ran) == number - 1, "a section ran before it was rung"
        ours.call(number)
        ours.wait_awake(number, 10, alive)
        assert len(ran) == number - 1
        ours.ring(number)
        ours.wait_done(number, 10, alive)
        assert ours.table() == [7, 2**40 + number]
    ours.end()
    threading.Event().wait(0.01)
    assert ran == [0, 1, 2]
    assert found in ([], [3])


def test_a_section_that_fails_is_told_at_once(bells, serve):
    def fail():
        raise RuntimeError("no")

    found = serve(fail)
    bells[0].wait_ready(1, 10, alive)
    bells[0].ring(1)
    with pytest.raises(LateError, match="failed"):
        bells[0].wait_done(1, 60, alive)
    assert str(found[0]) == "no"


def test_who_does_not_answer_is_late_and_who_is_gone_is_not_waited_for(bells):
    with pytest.raises(LateError, match=r"within 0\.01 s"):
        bells[0].wait_ready(1, 0.01, alive)
    with pytest.raises(LateError, match="failed"):
        bells[0].wait_ready(1, 60, lambda: False)


def test_a_table_of_any_length_told_stays_within_the_memory(bells):
    bells[1]._words[5] = 2**63  # what a side may write there
    assert len(bells[0].table()) == len(bells[0]._words) - 8
    bells[0].reset()
    assert bells[0].table() == []
