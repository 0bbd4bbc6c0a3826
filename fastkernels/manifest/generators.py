"""The value generators that a manifest may name, with their arguments; drawing itself is the grader's work."""

from dataclasses import dataclass

TENSOR_DTYPES = (
    "bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2",
    "int8", "uint8", "int16", "int32", "int64", "bool",
)  # fmt: skip
"""torch dtype names that inputs and `dtype` init arguments may have."""

_FLOATS = ("bfloat16", "float16", "float32", "float64")
_INTEGERS = ("int32", "int64")
_CHOICE = ("experts", "top_k")
_SORTED = (*_CHOICE, "block_size")


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
    from_context: bool = False
    """Whether it follows from the lengths in the entry's context (`seqused_k`, `cu_seqlens_q`), which must be there."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Every argument it knows."""
        return self.required + self.optional

    @property
    def tensor(self) -> bool:
        """True where it makes a tensor, which then has a shape and a dtype."""
        return bool(self.dtypes)


GENERATORS: dict[str, Generator] = {
    "normal": Generator(optional=("std", "mean"), dtypes=_FLOATS),
    "correction_bias": Generator(dtypes=_FLOATS),
    "rank_part": Generator(required=("ranks",), dtypes=_FLOATS, sizes=("ranks",)),
    "routed": Generator(
        required=("gate", "top_k"), dtypes=_FLOATS,
        optional=("norm", "bias", "groups", "top_groups", "least", "beside", "margin", "std"),
        sizes=("top_k", "groups", "top_groups"),
    ),
    "router_logits": Generator(
        required=("top_k",), optional=("groups", "top_groups", "correction"), dtypes=_FLOATS,
        sizes=("top_k", "groups", "top_groups"),
    ),
    "routing_weights": Generator(dtypes=_FLOATS),
    "topk_ids": Generator(required=("experts",), dtypes=_INTEGERS, sizes=("experts",)),
    "expert_choices": Generator(required=_CHOICE, dtypes=_INTEGERS, sizes=_CHOICE),
    "sorted_token_ids": Generator(required=_SORTED, dtypes=_INTEGERS, sizes=_SORTED),
    "block_experts": Generator(required=_SORTED, dtypes=_INTEGERS, sizes=_SORTED),
    "padded_rows": Generator(required=_SORTED, dtypes=_INTEGERS, sizes=_SORTED),
    "literal": Generator(required=("value",), dtypes=()),
    "positions": Generator(required=("max",), dtypes=_INTEGERS, sizes=("max",)),
    "token_ids": Generator(required=("vocab",), optional=("local",), dtypes=_INTEGERS, sizes=("vocab", "local")),
    "slot_mapping": Generator(required=("slots",), dtypes=_INTEGERS, sizes=("slots",)),
    "block_table": Generator(required=("pages",), dtypes=_INTEGERS, sizes=("pages",)),
    "seqused_k": Generator(required=("max",), optional=("padded",), dtypes=_INTEGERS, sizes=("max",)),
    "cu_seqlens": Generator(required=("total", "sequences"), dtypes=_INTEGERS, sizes=("total", "sequences")),
    "longest": Generator(required=("of",), dtypes=()),
    "same_as": Generator(required=("of",)),
    "batch_slots": Generator(
        required=("page_size",), optional=("pages",), dtypes=_INTEGERS, sizes=("page_size", "pages"), from_context=True
    ),
    "batch_positions": Generator(dtypes=_INTEGERS, from_context=True),
    "key_slots": Generator(
        required=("page_size", "pages"), optional=("first",), dtypes=_INTEGERS, sizes=("page_size", "pages"),
        from_context=True,
    ),
}
"""Every generator by name."""
