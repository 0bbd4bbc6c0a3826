"""Times loading and expanding the manifest in fresh interpreters: python benchmarks/collection.py [--repeats N]."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]

STEPS = """
import json, sys, time
started = time.perf_counter()
from fastkernels.manifest import load_manifest
imported = time.perf_counter()
manifest = load_manifest()
loaded = time.perf_counter()
scenarios = manifest.scenarios()
expanded = time.perf_counter()
shapes = len({scenario.shape_key for scenario in scenarios})
keyed = time.perf_counter()
print(json.dumps({
    "entries": len(manifest.entries), "scenarios": len(scenarios), "different computations": shapes,
    "torch imported": "torch" in sys.modules,
    "seconds": {"import": imported - started, "load and check": loaded - imported, "expand": expanded - loaded,
                "import, load and expand": expanded - started, "shape keys of all": keyed - expanded},
}))
"""


def measure() -> dict[str, Any]:
    """Run the steps once in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", STEPS], cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="fresh interpreters (default: 10)")
    repeats = parser.parse_args().repeats
    measure()  # writes byte code and warms the page cache
    runs = [measure() for _ in range(repeats)]
    seconds = [run["seconds"] for run in runs]
    print(f"machine: {platform.processor() or platform.machine()}, {psutil.cpu_count()} CPUs, {platform.platform()}")
    packages = ", ".join(f"{name} {version(name)}" for name in ("pydantic", "PyYAML"))
    print(f"versions: Python {platform.python_version()}, {packages}; {repeats} fresh interpreters")
    for name in ("entries", "scenarios", "different computations", "torch imported"):
        print(f"{name}: {runs[0][name]}")
    print(f"\n{'step':<26}{'median ms':>12}{'min ms':>10}{'max ms':>10}")
    for step in seconds[0]:
        times = sorted(1e3 * run[step] for run in seconds)
        print(f"{step:<26}{statistics.median(times):>12.1f}{times[0]:>10.1f}{times[-1]:>10.1f}")


if __name__ == "__main__":
    main()
