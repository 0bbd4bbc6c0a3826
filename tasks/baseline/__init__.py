"""Baseline operators at four levels; higher levels compose lower ones by relative imports."""
