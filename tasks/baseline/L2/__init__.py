"""Blocks of several operators."""
