"""Benchmark tiers, grading, timing and tracking."""
