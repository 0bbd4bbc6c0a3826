"""Refuses a rotary embedding whose kind, keys or numbers transformers would not read as they are read here."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from fastkernels.errors import one_of
from fastkernels.manifest import facts
from fastkernels.manifest.families import Family

COMMON = ("rope_theta", "rope_type", "type", "partial_rotary_factor", "finetuned")
NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow", "mscale",
           "mscale_all_dim", "rope_theta", "partial_rotary_factor")  # fmt: skip
MOST = 1e30
"""Numbers of a config lie below; infinity and what overflows do not."""
MAY_BE_ZERO = ("mscale", "mscale_all_dim")

Problem = tuple[str, str]


def problems(values: Mapping[str, Any], family: Family) -> Iterator[Problem]:
    """Yield (key, what is wrong)."""
    given = [key for key in ("rope_parameters", "rope_scaling") if values.get(key)]
    if len(given) > 1 and values[given[0]] != values[given[1]]:
        yield "rope_scaling", "rope_parameters is given besides, and differs"
        return
    for key in ("rope_theta", "rope_local_base_freq"):
        if values.get(key) is not None and not is_number(values[key]):
            yield key, f"{values[key]!r} is not a number over 0"
    if not given:
        return
    key, found = given[0], values[given[0]]
    if not isinstance(found, Mapping):
        yield key, f"found {type(found).__name__}, it is a JSON object"
    elif facts.FULL in found or facts.SLIDING in found:
        yield from _by_type(key, found, family)
    elif key == "rope_parameters" and family.rope_by_type:
        yield key, f"has one rotary embedding for each layer type: {facts.FULL}, {facts.SLIDING}"
    else:
        yield from _one(key, found, family)


def _by_type(key: str, found: Mapping[str, Any], family: Family) -> Iterator[Problem]:
    if not family.rope_by_type:
        yield key, "one rotary embedding for each layer type is not what this architecture has"
        return
    for kind, one in found.items():
        if kind not in (facts.FULL, facts.SLIDING):
            yield f"{key}.{kind}", one_of(kind, (facts.FULL, facts.SLIDING))
        elif isinstance(one, Mapping):
            yield from _one(f"{key}.{kind}", one, family)
        elif one is not None:
            yield f"{key}.{kind}", f"found {type(one).__name__}, it is a JSON object"


def _one(path: str, found: Mapping[str, Any], family: Family) -> Iterator[Problem]:
    """Yield what is wrong with one rotary embedding."""
    kind = found.get("rope_type", found.get("type", "default"))
    if found.get("type", kind) != kind:
        yield f"{path}.type", f"{found['type']!r} is not {kind!r}, the rope_type beside it"
        return
    if kind not in facts.ROPE_KEYS:
        yield f"{path}.rope_type", one_of(kind, facts.ROPE_KEYS)
        return
    if family.rope_types and kind not in family.rope_types:
        yield f"{path}.rope_type", f"{kind!r}: this architecture is built for {', '.join(family.rope_types)} only"
        return
    needed, allowed = facts.ROPE_KEYS[kind]
    for key in needed:
        if key not in found:
            yield f"{path}.{key}", f"missing; {kind} scaling needs it"
    for key, value in found.items():
        if key not in (*COMMON, *needed, *allowed):
            if value is not None:
                yield f"{path}.{key}", f"{value!r}: {kind} scaling does not read this key"
        elif problem := _value_problem(key, value, key in needed):
            yield f"{path}.{key}", problem
        elif key == "partial_rotary_factor" and value not in (None, 1) and not family.partial_rotary:
            yield f"{path}.{key}", f"{value!r}: this architecture rotates whole heads"
    low, high = found.get("low_freq_factor"), found.get("high_freq_factor")
    if kind == "llama3" and is_number(low) and is_number(high) and not low < high:
        yield f"{path}.high_freq_factor", f"{high!r} is not over low_freq_factor, {low!r}"
    yield from _latent_problems(path, found, kind, family)


def _latent_problems(path: str, found: Mapping[str, Any], kind: str, family: Family) -> Iterator[Problem]:
    """With one of the two scales alone transformers and vLLM differ in latent attention."""
    scale, of_all = found.get("mscale"), found.get("mscale_all_dim")
    is_plain = not of_all and (scale is None or scale == 1)
    if kind == "yarn" and family.experts_key == "n_routed_experts" and not is_plain and not (scale and of_all):
        yield f"{path}.mscale_all_dim", f"{of_all!r} beside mscale {scale!r}: give both, or neither"


def _value_problem(key: str, value: Any, needed: bool) -> str:
    if value is None:
        return "None is not a number over 0" if needed else ""
    if key in MAY_BE_ZERO and value == 0:
        return ""
    if key in NUMBERS and not is_number(value):
        return f"{value!r} is not a number over 0"
    if key == "partial_rotary_factor" and value > 1:
        return f"{value!r} is over 1, the whole head"
    if key == "original_max_position_embeddings" and (not isinstance(value, int) or not is_number(value)):
        return f"{value!r} is not a whole number of at least 1"
    if key == "truncate" and not isinstance(value, bool):
        return f"{value!r} is not true or false"
    return ""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number over 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST
