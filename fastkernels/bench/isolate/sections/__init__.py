"""Timed sections on CUDA: calls on secret inputs in another process, by the trusted worker's clock (docs/timing.md).

`bell` starts a section, `room` is the memory that a side works on, `side` its calls, `exports` its outputs as the
trusted worker sees them, `standstill` holds a tree of processes still, `fresh` draws inputs, `check` compares all
outputs, `clock` runs rounds of both sides.
"""
