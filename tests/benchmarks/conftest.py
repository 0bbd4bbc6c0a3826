"""Lets the tests of scripts import them as `benchmarks.NAME`, as the scripts import each other."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
