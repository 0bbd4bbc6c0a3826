"""Whether a model can be built at all: head counts, groups and experts that fit each other."""

from collections.abc import Iterator

from fastkernels.manifest.config import ModelConfig

Problem = tuple[str, str]


def problems(config: ModelConfig) -> Iterator[Problem]:
    """Yield (key, what is wrong)."""
    yield from _heads(config)
    if config.routing.num_experts:
        yield from _experts(config)


def _heads(config: ModelConfig) -> Iterator[Problem]:
    heads, kv_heads, width = config.num_heads, config.num_kv_heads, config.hidden_size // config.num_heads
    if config.latent is not None and kv_heads != heads:
        yield "num_key_value_heads", f"{kv_heads} is not {heads}: latent attention has a key for each query head"
    elif heads % kv_heads:
        yield "num_key_value_heads", f"{kv_heads} does not divide the {heads} query heads (num_attention_heads)"
    if config.rotary_dim % 2 or config.rotary_dim < 2:
        key = "qk_rope_head_dim" if config.latent else "head_dim"
        yield key, f"{config.rotary_dim} elements of a head cannot be rotated in pairs"
    if config.family.attention == "qwen2_attention" and config.head_dim != width:
        yield "head_dim", f"{config.head_dim} is not {width}, hidden_size by num_attention_heads"


def _experts(config: ModelConfig) -> Iterator[Problem]:
    routing = config.routing
    key = config.family.experts_key
    if routing.top_k > routing.num_experts:
        yield "num_experts_per_tok", f"{routing.top_k} is over {routing.num_experts}, the number of experts ({key})"
    if routing.num_experts % routing.groups:
        yield "n_group", f"{routing.groups} does not divide the {routing.num_experts} experts ({key})"
        return
    if routing.top_groups > routing.groups:
        yield "topk_group", f"{routing.top_groups} is over {routing.groups}, the number of groups (n_group)"
    size = routing.num_experts // routing.groups
    if routing.top_k > size * routing.top_groups:
        yield "num_experts_per_tok", (f"{routing.top_k} is over {size * routing.top_groups}, the experts of "
                                      f"{routing.top_groups} groups (topk_group) of {size}")
    if routing.corrected and size < 2:
        yield "n_group", f"{routing.groups} groups of one expert: a group is chosen by its best two"
