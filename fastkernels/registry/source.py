"""One Python file, read once: bytes, hash, syntax tree or what is wrong with it."""

import ast
import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from fastkernels.errors import CandidateError, shown


@dataclass(frozen=True)
class Source:
    """A file as it was when it was read."""

    path: Path
    """The file."""
    sha256: str
    """Hash of its bytes."""
    tree: ast.Module = field(repr=False)
    """Its syntax tree; empty where it does not parse."""
    error: str = ""
    """Why it does not parse: file, line, column, message and the line itself; empty where it does."""
    data: bytes = field(default=b"", repr=False)
    """Its bytes."""


def read_source(path: Path, compiles: bool = False) -> Source:
    """Read and parse a file, and compile it if asked to; CandidateError where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CandidateError(f"{shown(path)}: cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is no reason to refuse a file
            tree = ast.parse(data, str(path))
            if compiles:  # finds what the parser lets pass, such as a return outside of a function
                compile(data, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        return Source(path, digest, ast.Module([], []), _describe(path, error, data), data)
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nested too deeply for the parser
        return Source(path, digest, ast.Module([], []), f"{shown(path)}: {error or type(error).__name__}", data)
    return Source(path, digest, tree, data=data)


def _describe(path: Path, error: SyntaxError, data: bytes) -> str:
    line, column = _bad_byte(data) or (error.lineno or 1, error.offset or 1)
    column = max(1, column)
    lines = data.decode("utf-8", "replace").splitlines()
    whole = lines[line - 1] if line <= len(lines) else ""
    text = "".join(letter if letter.isprintable() else " " for letter in whole).rstrip()
    indent = len(text) - len(text.lstrip())
    place = f"{shown(path)}:{line}:{column}: {error.msg}"
    return f"{place}\n    {text.lstrip()}\n    {' ' * max(0, column - 1 - indent)}^" if text else place


def _bad_byte(data: bytes) -> tuple[int, int] | None:
    """Line and column of a byte that no source may hold; the parser's own place for it is off or missing."""
    start = data.find(b"\0")
    if start < 0:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            start = error.start
    return None if start < 0 else (data.count(b"\n", 0, start) + 1, start - data.rfind(b"\n", 0, start))
