"""Correctness: draws, oracle, comparison; no timing."""
