"""Task tree: baseline operators and the slot for candidates."""
