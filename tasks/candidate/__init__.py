"""The slot for candidates: a file at the same relative path as the baseline it replaces."""
