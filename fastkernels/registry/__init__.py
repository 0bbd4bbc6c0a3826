"""Operators, candidates, import graph and overlay, read without importing torch."""
