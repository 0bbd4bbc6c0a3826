"""What the candidate's processes print while one scenario is graded: for the result, and live for who listens."""

import threading
import unicodedata
from collections.abc import Callable

KEPT = 4000
"""Last characters of a scenario's output that its result holds."""


class Said:
    """Gathers output; several processes may add to it from threads of their own."""

    def __init__(self, live: Callable[[str], None] | None = None) -> None:
        """live: told each piece as it comes."""
        self._live = live
        self._text = ""
        self._more = 0
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Take a piece."""
        text = printable(text)
        with self._lock:
            whole = self._text + text
            self._more += max(0, len(whole) - KEPT)
            self._text = whole[-KEPT:]
        if self._live is not None:
            self._live(text)

    def take(self) -> str:
        """The last of what has come since the last time, and how much before it is left out."""
        with self._lock:
            text, more = self._text.rstrip(), self._more
            self._text, self._more = "", 0
        return f"({more} characters before are left out)\n{text}" if more else text


def printable(text: str) -> str:
    """The text without what commands a terminal, or belongs into no text: escape sequences, bells, lone surrogates."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs") else repr(char)[1:-1]
                   for char in text.replace("\r\n", "\n").replace("\r", "\n"))
