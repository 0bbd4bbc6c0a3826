"""Names of what a forward context holds, as the `context` section of a manifest's entry gives them."""

from collections.abc import Iterable, Iterator

PREFIX = "context."
"""Inputs of a scenario that belong to the forward context have names with this prefix."""

DECODE = ("block_table", "seqused_k", "num_decodes", "max_seqlen_k")
"""Sequences that bring one token: all of these or none."""

PREFILL = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "prefill_max_seqlen_k")
"""Sequences that bring several tokens: all of these or none."""

CACHES = (("key_cache", "value_cache"), ("latent_cache",))
"""The caches of one layer: of keys and values, or of latent attention."""

MODEL_CACHES = (("key_caches", "value_caches"), ("latent_caches",))
"""Those of a whole model's layers, one behind the other in the first dimension."""

LAYER_NAME = "model.layers.{}.self_attn.attn"
"""The name under which a model's layer asks for its cache, by its number."""

NAMES = ("slot_mapping", *DECODE, *PREFILL, "key_slots", *CACHES[0], *CACHES[1], *MODEL_CACHES[0], *MODEL_CACHES[1])
"""Every value that there is. `prefill_max_seqlen_k` is that of PrefillMetadata, `max_seqlen_k` that of the decodes."""


def problems(found: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, what is wrong) for a context with these values, known ones, that cannot be one.

    It holds the caches of one layer or those of a model: never both.
    """
    names = set(found)
    if "slot_mapping" not in names:
        yield "slot_mapping", "missing"
    for group in (DECODE, PREFILL):
        if names & set(group):
            yield from ((name, f"missing; {group[0]} needs it") for name in group if name not in names)
    if not names & {*DECODE, *PREFILL}:
        yield "block_table", "missing, and cu_seqlens_q too: a batch has sequences that decode or prefill"
    if "key_slots" in names and "cu_seqlens_k" not in names:
        yield "cu_seqlens_k", "missing; key_slots needs it"
    if not any(names >= set(caches) for caches in (*CACHES, *MODEL_CACHES)):
        yield "key_cache", ("missing; a context has key_cache and value_cache, or latent_cache, of one layer, or "
                            "key_caches and value_caches, or latent_caches, of a model")
    of_layer, of_model = ([name for group in groups for name in group if name in names]
                          for groups in (CACHES, MODEL_CACHES))
    if of_layer and of_model:
        yield of_model[0], f"beside {of_layer[0]}; a context has the caches of one layer or those of a model"
