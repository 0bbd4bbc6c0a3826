"""Layers: a lower one never imports a higher one; imports in functions and under TYPE_CHECKING count too."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    ("_mount", "manifests"),
    ("errors",),
    ("env",),
    ("manifest",),
    ("results",),
    ("registry", "report"),
    ("runtime",),
    ("tasks",),
    ("bench.grade", "bench.timing", "bench.tracking"),
    ("bench.isolate", "engine"),
    ("bench.kernels",),
    ("options",),
    ("bench.e2e", "bench.eval"),
    ("agent",),
    ("cli",),
)
"""Parts of `fastkernels`, lowest first; parts of one row do not import each other. A new part has to be placed here."""
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
WITHOUT_TORCH = ("errors", "env", "manifest", "results", "registry", "_mount")
HEAVY = ("torch", "triton", "numpy", "vllm", "transformers")
FOR_TASKS = ("torch", "triton", "fastkernels.runtime")
FOR_PLUGIN = ("fastkernels", "pytest_fastkernels", "pytest", "pytest_benchmark", "xdist", "rich")
BENCHMARK_BRIDGE = "benchmark_bridge.py"
"""The one file of the plugin that may name pytest-benchmark's modules."""


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import of a file in `package`, `from a import b` as `a.b`.

    A relative import that leaves the top-level package yields a name that begins with a dot.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            try:
                origin = importlib.util.resolve_name(base, package) if node.level else base
            except ImportError:
                origin = base
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


WAYS = "fastkernels.tasks.ways"
"""Examples of the ways to write a kernel, cupy among them."""


def part_of(dotted: str) -> str:
    """Return the layer that a name below `fastkernels` belongs to: `bench.grade`, `registry`, `` for the root."""
    parts = dotted.split(".")[1:]
    two = ".".join(parts[:2])
    return two if two in RANK or (parts and parts[0] == "bench") else ".".join(parts[:1])


def is_below(dotted: str, names: tuple[str, ...]) -> bool:
    return any(dotted == name or dotted.startswith(f"{name}.") for name in names)


def is_standard(dotted: str) -> bool:
    return dotted.split(".")[0] in sys.stdlib_module_names


def check_library(module: str, name: str) -> str:
    """What is wrong with `module` of fastkernels importing `name`; empty where it may."""
    part = part_of(module)
    if is_below(name, ("pytest", "_pytest", "pytest_fastkernels", "pytest_benchmark", "xdist")):
        return "the library knows nothing of pytest"
    if part in WITHOUT_TORCH and is_below(name, HEAVY):
        return f"{part} is read at collection, without torch"
    target = part_of(name) if name.startswith("fastkernels.") else ""
    if target not in RANK or target == part:
        return ""  # another package, the root's own names (`fastkernels.__version__`), or the same part
    if part in ("", "bench"):
        return "" if target == "_mount" else f"{module} is the root of its package and imports nothing"
    return "" if RANK[target] < RANK[part] else f"{part} is not above {target}"


def check_task(module: str, name: str) -> str:
    """What is wrong with a task file importing `name`; `module` is such as `fastkernels.tasks.baseline.L1.rms_norm`."""
    root = ".".join(module.split(".")[:3])
    if is_standard(name) or is_below(name, FOR_TASKS) or (is_below(module, (WAYS,)) and is_below(name, ("cupy",))):
        return ""
    if not name.startswith(f"{root}."):
        return "a task file imports torch, triton, fastkernels.runtime, the standard library and its own tree"
    level, other = module.split(".")[3], name.split(".")[3]
    return f"{level} is below {other}" if other[1:] > level[1:] else ""


def check_plugin(path: Path, name: str) -> str:
    """What is wrong with a file of the plugin importing `name`."""
    if not is_standard(name) and not is_below(name, FOR_PLUGIN):
        return f"the plugin imports {', '.join(FOR_PLUGIN)} and the standard library"
    is_private = any(word.startswith("_") and word != "__version__" for word in name.split("."))
    if is_private and is_below(name, ("fastkernels",)):
        return "private to fastkernels"
    if is_below(name, ("pytest_benchmark",)) and path.name != BENCHMARK_BRIDGE:
        return f"pytest-benchmark is met in {BENCHMARK_BRIDGE} only"
    if is_private and is_below(name, ("pytest_benchmark", "xdist", "pytest")):
        return "private to its package"
    return ""


def check_agent(name: str) -> str:
    """What is wrong with the agent importing `name`."""
    fine = is_standard(name) or is_below(name, ("fastkernels", "litellm", "yaml"))
    return "" if fine and "._" not in name else "the agent imports fastkernels' public names, litellm and PyYAML"


def findings(root: Path) -> list[str]:
    """Every import of the tree below `root` that crosses a border."""
    found = []
    for path in sorted(root.rglob("*.py")):
        folder, *rest = path.relative_to(root).with_suffix("").parts
        if folder not in ("fastkernels", "pytest_fastkernels", "tasks", "agent", "examples"):
            continue
        module = ".".join(module_parts(folder, rest))
        parts = module.split(".")
        package = module if path.name == "__init__.py" else ".".join(parts[:-1])
        where = path.relative_to(root)
        if folder == "fastkernels" and part_of(module) not in (*RANK, "", "bench"):
            found.append(f"{where}: {part_of(module)} has no place in LAYERS")
        for line, name in imported(ast.parse(path.read_bytes()), package):
            if folder == "fastkernels":
                wrong = check_library(module, name)
            elif folder == "pytest_fastkernels":
                wrong = check_plugin(path, name)
            else:
                wrong = check_agent(name) if folder == "agent" else check_task(module, name)
            found += [f"{where}:{line}: {name}: {wrong}"] if wrong else []
    return found


def module_parts(folder: str, rest: list[str]) -> list[str]:
    """The dotted name of a file; the folders of examples/ are candidate directories, that is, roots of a task tree."""
    parts = rest[:-1] if rest[-1] == "__init__" else rest
    mounted = {"tasks": "fastkernels.tasks", "agent": "fastkernels.agent", "examples": "fastkernels.tasks"}
    return [mounted.get(folder, folder), *parts]


def test_no_import_crosses_a_border() -> None:
    assert findings(ROOT) == []


@pytest.mark.parametrize(("path", "line", "reason"), [
    ("fastkernels/registry/x.py", "from fastkernels.bench.kernels import x", "registry is not above bench.kernels"),
    ("fastkernels/registry/x.py", "from ..bench import grade", "registry is not above bench.grade"),
    ("fastkernels/registry/x.py", "from fastkernels.bench import grade", "registry is not above bench.grade"),
    ("fastkernels/manifest/x.py", "def f():\n    import fastkernels.results", "manifest is not above results"),
    ("fastkernels/manifest/x.py", "import importlib\nimportlib.import_module('fastkernels.cli.main')", "not above cli"),
    ("fastkernels/bench/grade/x.py", "from fastkernels.bench.timing import x", "bench.grade is not above bench.timing"),
    ("fastkernels/bench/timing/x.py", "import fastkernels.bench.grade", "bench.timing is not above bench.grade"),
    ("fastkernels/bench/__init__.py", "from fastkernels.bench.kernels import x", "imports nothing"),
    ("fastkernels/__init__.py", "from fastkernels.results import Verdict", "imports nothing"),
    ("fastkernels/runtime/x.py", "from fastkernels.tasks.baseline.L1 import rms_norm", "runtime is not above tasks"),
    ("fastkernels/runtime/x.py", "import fastkernels.agent", "runtime is not above agent"),
    ("fastkernels/results.py", "import torch", "without torch"),
    ("fastkernels/env.py", "def f():\n    from torch import cuda", "without torch"),
    ("fastkernels/registry/x.py", "import numpy.linalg", "without torch"),
    ("fastkernels/bench/isolate/x.py", "import pytest", "knows nothing of pytest"),
    ("fastkernels/cli/x.py", "from pytest_fastkernels.plugin import x", "knows nothing of pytest"),
    ("fastkernels/bench/novel/x.py", "", "bench.novel has no place in LAYERS"),
    ("fastkernels/novel.py", "", "novel has no place in LAYERS"),
    ("tasks/baseline/L1/x.py", "import numpy", "a task file imports"),
    ("tasks/baseline/L1/x.py", "from fastkernels.results import Verdict", "a task file imports"),
    ("tasks/baseline/L1/x.py", "from ...candidate.L1 import y", "a task file imports"),
    ("tasks/baseline/L1/x.py", "from ..L2.block import Block", "L1 is below L2"),
    ("examples/candidates/L1/x.py", "from fastkernels.tasks.baseline.L1.rms_norm import x", "a task file imports"),
    ("examples/wrong/L1/x.py", "import numpy as np", "a task file imports"),
    ("examples/wrong/L1/x.py", "import cupy", "a task file imports"),
    ("examples/ways/cupy/L1/x.py", "import numpy as np", "a task file imports"),
    ("pytest_fastkernels/x.py", "from _pytest.config import Config", "the plugin imports"),
    ("pytest_fastkernels/x.py", "import torch", "the plugin imports"),
    ("pytest_fastkernels/x.py", "from fastkernels._mount import mount", "private to fastkernels"),
    ("pytest_fastkernels/x.py", "from fastkernels.registry.candidates import _helper", "private to fastkernels"),
    ("pytest_fastkernels/x.py", "from pytest_benchmark.stats import Metadata", "benchmark_bridge.py only"),
    ("pytest_fastkernels/benchmark_bridge.py", "from pytest_benchmark.stats import _x", "private to its package"),
    ("agent/x.py", "import pytest", "the agent imports"),
])
def test_a_planted_violation_is_found(tmp_path: Path, path: str, line: str, reason: str) -> None:
    write(tmp_path, path, line)
    found = findings(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(path)
    assert reason in found[0]


@pytest.mark.parametrize(("path", "line"), [
    ("fastkernels/__init__.py", "from fastkernels._mount import mount"),
    ("fastkernels/cli/main.py", "from fastkernels import __version__\nfrom fastkernels.bench.kernels import x"),
    ("fastkernels/registry/x.py", "from fastkernels.results import Verdict\nfrom . import y\nimport fastkernels"),
    ("fastkernels/bench/isolate/x.py", "import torch\nfrom fastkernels.bench.grade import Judge"),
    ("tasks/baseline/L2/x.py", "import math\nimport torch.nn as nn\nfrom ..L1.rms_norm import x\nfrom .y import z"),
    ("tasks/baseline/L1/x.py", "from fastkernels.runtime.op import Op\nimport triton.language\nfrom . import _common"),
    ("examples/candidates/L1/x.py", "from fastkernels.runtime.jit import tl, triton"),
    ("pytest_fastkernels/x.py", "import pytest\nfrom fastkernels.results import Verdict\nfrom rich.table import Table"),
    ("pytest_fastkernels/benchmark_bridge.py", "from pytest_benchmark.stats import Metadata"),
    ("agent/agent.py", "import litellm\nfrom fastkernels.registry import discover"),
    ("tests/x.py", "import _pytest"),
])
def test_what_is_allowed_passes(tmp_path: Path, path: str, line: str) -> None:
    write(tmp_path, path, line)
    assert findings(tmp_path) == []


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(("modules", "clean"), [
    ("fastkernels.errors, fastkernels.env, fastkernels.manifest, fastkernels.registry, fastkernels.results", True),
    ("pytest_fastkernels.plugin, pytest_fastkernels.plan, pytest_fastkernels.session", True),
    ("fastkernels.bench.isolate.build", False),
])
def test_torch_stays_out_when_they_are_imported(modules: str, clean: bool) -> None:
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == (0 if clean else 1)
