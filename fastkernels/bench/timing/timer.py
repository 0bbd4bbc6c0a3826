"""What is timed."""

from collections.abc import Callable

Call = Callable[[int], object]
"""Runs the graded operator on input set `i`; the caller rotates the sets, the instrument counts i upwards from 0."""
