"""Processes that heed the signals that a test sends them, however the tests themselves were started."""

import signal

ENDING = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""What ends a command from outside."""


def heed_signals() -> None:
    """For `preexec_fn`: a shell's background job ignores SIGINT, and one of nohup SIGHUP; children inherit that."""
    for signum in ENDING:
        signal.signal(signum, signal.SIG_DFL)
