"""A run with a name: what a page is made of, and how it is read from a results file."""

import gzip
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from fastkernels.errors import ReportError, ResultsError, shown
from fastkernels.results import KernelBenchResult, read_result


@dataclass(frozen=True)
class NamedRun:
    """One run of the kernel tier, as the page calls it."""

    name: str
    """What the page calls it, such as the path of its results file."""
    result: KernelBenchResult
    """The run."""


def read_run(path: Path) -> NamedRun:
    """Read a results file, gzipped where its name ends in `.gz`.

    ResultsError for a file that cannot be read or is of another form; ReportError for one without results.
    """
    result = _read_gzip(path) if path.suffix == ".gz" else read_result(path)
    if not result.results:
        left = f"; {len(result.left_out)} scenarios were left out" if result.left_out else ""
        raise ReportError(f"{shown(path)}: results: none, so there is nothing to report{left}")
    return NamedRun(shown(path), result)


def _read_gzip(path: Path) -> KernelBenchResult:
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ResultsError(f"{path}: {getattr(error, 'strerror', None) or f'no gzip: {error}'}") from error
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        plain.write_bytes(text)
        try:
            return read_result(plain)
        except ResultsError as error:
            raise ResultsError(str(error).replace(str(plain), str(path))) from error
