"""The value generators that a manifest may name, with their arguments; drawing itself is the grader's work."""

from dataclasses import dataclass

TENSOR_DTYPES = (
    "bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2",
    "int8", "uint8", "int16", "int32", "int64", "bool",
)  # fmt: skip
"""torch dtype names that inputs and `dtype` init arguments may have."""

_FLOATS = ("bfloat16", "float16", "float32", "float64")
_INTEGERS = ("int32", "int64")


@dataclass(frozen=True)
class Generator:
    """What one generator takes."""

    required: tuple[str, ...] = ()
    """Arguments that must be given."""
    optional: tuple[str, ...] = ()
    """Arguments that may be given."""
    dtypes: tuple[str, ...] = TENSOR_DTYPES
    """Dtypes it can draw; empty where it makes no tensor."""
    sizes: tuple[str, ...] = ()
    """Arguments that are counts: a number of at least 1 or an expression in `tokens`."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Every argument it knows."""
        return self.required + self.optional

    @property
    def tensor(self) -> bool:
        """True where it makes a tensor, which then has a shape and a dtype."""
        return bool(self.dtypes)


GENERATORS: dict[str, Generator] = {
    "normal": Generator(optional=("std",), dtypes=_FLOATS),
    "literal": Generator(required=("value",), dtypes=()),
    "positions": Generator(required=("max",), dtypes=_INTEGERS, sizes=("max",)),
    "token_ids": Generator(required=("vocab",), dtypes=_INTEGERS, sizes=("vocab",)),
    "slot_mapping": Generator(required=("slots",), dtypes=_INTEGERS, sizes=("slots",)),
    "block_table": Generator(required=("pages",), dtypes=_INTEGERS, sizes=("pages",)),
    "seqused_k": Generator(required=("max",), dtypes=_INTEGERS, sizes=("max",)),
    "cu_seqlens": Generator(required=("total", "sequences"), dtypes=_INTEGERS, sizes=("total", "sequences")),
    "same_as": Generator(required=("of",)),
}
"""Every generator by name."""
