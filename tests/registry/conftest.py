"""Small task trees without torch: L1 add and scale, L2 block (add, scale), L3 layer (block)."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fastkernels.registry import Candidates, ImportGraph

BASELINE = {
    "__init__.py": '"""Baseline."""\n',
    "L1/__init__.py": "LEVEL = 1\n",
    "L1/_common.py": "WHERE = 'baseline'\n",
    "L1/add.py": """
class Add:
    def __init__(self, n, eps=1e-6, dtype=None):
        self.n = n
    def forward(self, x, y=None):
        return "baseline add"
""",
    "L1/scale.py": """
from ._common import WHERE
class Scale:
    def forward_native(self, x, *, by=2):
        return WHERE
    def forward_cuda(self, x, *, by=2):
        return WHERE
""",
    "L2/__init__.py": "",
    "L2/block.py": """
from ..L1.add import Add
from ..L1 import scale
class Block:
    def __init__(self, n):
        self.add = Add(n)
        self.scale = scale.Scale()
    def forward(self, x):
        return self.add.forward(x), self.scale.forward_native(x)
""",
    "L3/layer.py": """
from ..L2.block import Block
class Layer:
    def __init__(self, n):
        self.block = Block(n)
    def forward(self, x):
        return self.block.forward(x)
""",
}


class Trees:
    """A baseline and a candidate directory below one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.baseline = folder / "baseline"
        self.directory = folder / "mine"
        write(self.baseline, BASELINE)

    def candidate(self, path: str, text: str | bytes) -> Path:
        """Write one candidate file."""
        write(self.directory, {path: text})
        return self.directory / path

    def load(self) -> Candidates:
        """Read the candidates."""
        return Candidates.load(self.directory, self.baseline)

    def graph(self) -> ImportGraph:
        """Read the graph with the candidates laid over the baseline."""
        return ImportGraph.of(self.baseline, self.load())


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trees:
    """A baseline and an empty candidate directory; messages show paths relative to their parent."""
    monkeypatch.chdir(tmp_path)
    return Trees(tmp_path)
