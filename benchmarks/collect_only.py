"""Times the collection of the shipped manifest: `python benchmarks/collect_only.py --runs 5 --level 1 2 3`."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastkernels.cli.kernels import PLUGIN, plugin_is_installed

PROBE = """
import sys, time

import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    config.fk_started = time.perf_counter(), time.process_time()

def pytest_collection_finish(session):
    wall, cpu = session.config.fk_started
    took = f"{time.perf_counter() - wall:.4f} {time.process_time() - cpu:.4f}"
    print(f"\\nprobe {len(session.items)} {took} {'torch' in sys.modules}", file=sys.__stderr__)
"""


def main() -> None:
    """Print medians: seconds of collection (manifest, candidates, items), its CPU seconds, and the whole process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="collections that are timed (default: %(default)s)")
    parser.add_argument("--level", nargs="+", default=["1", "2", "3"], metavar="N", help="levels (default: 1 2 3)")
    options = parser.parse_args()
    plugin = [] if plugin_is_installed() else ["-p", PLUGIN]
    selection = [f"--fk-level={level}" for level in options.level]
    command = [sys.executable, "-m", "pytest", *plugin, *selection, "--collect-only", "-q"]
    whole, collecting, computing = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "probe.py").write_text(PROBE)
        path = os.pathsep.join([folder, str(Path(__file__).resolve().parents[1])])
        for _ in range(options.runs):
            started = time.perf_counter()
            done = subprocess.run([*command, "-p", "probe"], cwd=folder, capture_output=True, text=True, check=True,
                                  env={**os.environ, "PYTHONPATH": path})
            whole.append(time.perf_counter() - started)
            line = next(line for line in done.stderr.splitlines() if line.startswith("probe "))
            _, count, seconds, cpu_seconds, torch_imported = line.split()
            collecting.append(float(seconds))
            computing.append(float(cpu_seconds))
    medians = [statistics.median(values) for values in (collecting, computing, whole)]
    print("scenarios  collection s  of it CPU s  whole process s  torch imported")
    print("{:>9}  {:>12.2f}  {:>11.2f}  {:>15.2f}  {:>14}".format(count, *medians, torch_imported))


if __name__ == "__main__":
    main()
