"""Where the sources of one run's kernels lie among its artifacts, so that no two of them collide."""

import json
import re
from collections.abc import Iterable
from hashlib import sha256

from fastkernels.results import KernelSource

INDEX = "kernels/index.json"


class KernelFiles:
    """The sources that one run has kept so far.

    The operator's latest source lies at `kernels/{op}.py`. Another file of that name, such as a helper or the same
    operator's candidate of another level, lies at `kernels/L{level}/{op}.py`. Once a source changes within the run,
    each of its versions lies at `kernels/versions/{op}-{first 12 digits of its hash}.py` as well.
    """

    def __init__(self) -> None:
        self._paths: dict[tuple[str, int], str] = {}
        self._versions: dict[tuple[str, int], list[KernelSource]] = {}

    def add(self, sources: Iterable[KernelSource]) -> dict[str, bytes]:
        """Files to write, by path, with the index of all sources of the run; empty where nothing is new."""
        files: dict[str, bytes] = {}
        for source in sources:
            key = (source.op, source.level)
            known = self._versions.setdefault(key, [])
            if known and known[-1].code == source.code:
                continue
            path = self._paths.setdefault(key, self._new_path(source))
            files[path] = _bytes(source)
            known.append(source)
            if len(known) > 1:
                files |= {_version_path(path, version): _bytes(version) for version in known}
        return {**files, INDEX: self._index()} if files else {}

    def tags(self) -> dict[str, str]:
        """`kernel_sha256.{op}`: hash of the bytes of the latest source at `kernels/{op}.py`."""
        return {f"kernel_sha256.{op}": _hash(versions[-1]) for (op, level), versions in self._versions.items()
                if self._paths[op, level] == _plain_path(op)}

    def _new_path(self, source: KernelSource) -> str:
        plain = _plain_path(source.op)
        taken = {path.casefold() for path in self._paths.values()}
        path = plain if plain.casefold() not in taken else f"kernels/L{source.level}/{_safe(source.op)}.py"
        return path if path.casefold() not in taken else f"{path.removesuffix('.py')}-{_hash(source)[:12]}.py"

    def _index(self) -> bytes:
        listed = [
            {"op": op, "level": level, "artifact": self._paths[op, level], "sha256": _hash(versions[-1]),
             "path": versions[-1].path,
             "versions": [_version_path(self._paths[op, level], version) for version in versions]
             if len(versions) > 1 else []}
            for (op, level), versions in self._versions.items()]
        return json.dumps(listed, indent=1).encode() + b"\n"


def made(op: str, level: int, code: str) -> KernelSource:
    """A source that a caller gives as text."""
    source = KernelSource(op=op, level=level, path="", sha256="", code=code)
    return KernelSource(op=op, level=level, path="", sha256=_hash(source), code=code)


def _plain_path(op: str) -> str:
    return f"kernels/{_safe(op)}.py"


def _version_path(path: str, source: KernelSource) -> str:
    return f"kernels/versions/{path.removeprefix('kernels/').removesuffix('.py')}-{_hash(source)[:12]}.py"


def _safe(op: str) -> str:
    """An operator's name as the name of a file; one with other characters gets a hash."""
    kept = re.sub(r"[^\w\-]", "-", op, flags=re.ASCII) or "unnamed"
    return kept if kept == op else f"{kept}-{sha256(op.encode()).hexdigest()[:8]}"


def _bytes(source: KernelSource) -> bytes:
    return source.code.encode(errors="surrogatepass")


def _hash(source: KernelSource) -> str:
    return sha256(_bytes(source)).hexdigest()
