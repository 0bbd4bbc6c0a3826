"""The first error that a compiler told, out of what an exception says of it: nvcc, gcc, ptxas, Triton, Inductor."""

import re
import subprocess
from collections.abc import Iterator, Sequence

MOST_CAUSES = 8
"""Causes of an exception that are looked at."""

_TOLD = re.compile(r"\berror\s*(?:#?\w+-?\w*)?\s*:|\bfatal\s*:|undefined (?:reference|symbol)|\bcannot find -l",
                   re.IGNORECASE)
"""A line on which a compiler, assembler or linker tells an error: `f.cu(1): error: ...`, `ptxas fatal   : ...`."""

_NO_ERROR = re.compile(r"^\s*(?:\S*/)?(?:nvcc|c\+\+|g\+\+|gcc|clang\S*|ld|cc|ninja)\s+-")
"""A command line."""

_STEP = re.compile(r":? \[\d+/\d+\] .*")
"""What ninja ran, at the end of a line."""

_DIRECTORY = re.compile(r"^/(?:[^/\s:()]+/)+")
_PLACE_IN_TRITON = re.compile(r"\bat (\d+:\d+):$")
_CARET = re.compile(r"^\s*\^\s*$")


def first_line(text: str) -> str:
    """The first line that says something, with the next one where it ends in a colon; without commands of ninja."""
    lines = _lines(text)
    if not lines:
        return ""
    if lines[0].endswith(":") and len(lines) > 1 and not _PLACE_IN_TRITON.search(lines[0]):
        return f"{lines[0]} {lines[1]}"
    return _STEP.sub("", lines[0])


def first_error(error: BaseException) -> str:
    """The first error of a compiler in an exception and its causes, the innermost first; '' where none told one."""
    for text in reversed([text for cause in causes(error) for text in _texts(cause)]):
        found = _in_triton(text) or _in_lines(_lines(text))
        if found:
            return found
    return ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from or while handling, outermost first."""
    current: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _texts(error: BaseException) -> list[str]:
    """What an exception says, and before that what a program printed that has failed."""
    found = [str(error)]
    if isinstance(error, subprocess.CalledProcessError):
        printed = (error.stdout, error.stderr)
        found += [text.decode(errors="replace") if isinstance(text, bytes) else text for text in printed if text]
    return found


def _in_lines(lines: Sequence[str]) -> str:
    told = next((line for line in lines if _TOLD.search(line) and not _NO_ERROR.search(line)), "")
    return _DIRECTORY.sub("", told)


def _in_triton(text: str) -> str:
    """Triton shows `at LINE:COLUMN:`, the source up to there, a caret, and below it what is wrong."""
    lines = text.splitlines()
    place = ""
    for number, line in enumerate(lines):
        found = _PLACE_IN_TRITON.search(line)
        place = found.group(1) if found else place
        if place and _CARET.match(line) and number + 1 < len(lines) and lines[number + 1].strip():
            return f"at {place}: {lines[number + 1].strip()}"
    return ""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
