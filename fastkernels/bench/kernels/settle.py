"""Waits until processes that a candidate has started are done with their start, before the baseline is timed."""

import time
from collections.abc import Callable

WINDOW_S = 0.05
"""Time over which the candidate's processes must rest."""

REST_SHARE = 0.02
"""Part of a core that they may use in it, under what the watch over the baseline's timing allows."""

MOST_S = 15.0
"""Longest wait: what a process that imports torch takes on a busy machine. Of who works on then the watch tells."""


def settle(cpu_s: Callable[[], float], clock: Callable[[], float] = time.perf_counter,
           sleep: Callable[[float], None] = time.sleep) -> float:
    """Wait until `cpu_s`, CPU seconds so far, stands nearly still over WINDOW_S; returns the seconds waited.

    A pool that a compiler keeps (workers that import torch for seconds, beside the call that has started them) is at
    work for a while through no fault of the candidate's.
    """
    started = clock()
    used_s = cpu_s()
    while clock() - started < MOST_S:
        before_s, begun = used_s, clock()
        sleep(WINDOW_S)
        used_s = cpu_s()
        if used_s - before_s <= REST_SHARE * (clock() - begun):
            break
    return clock() - started
