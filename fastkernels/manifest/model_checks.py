"""What an entry of level 4, a whole model, holds otherwise than those below it."""

from collections.abc import Iterator

from fastkernels.errors import one_of
from fastkernels.manifest import context
from fastkernels.manifest.schema import EntryRow, Problem

LEVEL = 4
"""Level of whole models."""

INPUTS = ("input_ids", "positions", "logits_indices")
"""What a model is called with: the last are the rows whose logits are asked for."""

DTYPES = ("bfloat16", "float16", "float32", "float64")
"""What a config's `dtype` may be."""


def problems(path: str, level: int, entry: EntryRow) -> Iterator[Problem]:
    """Yield what is wrong with an entry of this level as far as whole models differ from their parts."""
    of_layer, of_model = ([name for group in groups for name in group if name in entry.context]
                          for groups in (context.CACHES, context.MODEL_CACHES))
    if level != LEVEL:
        for name in of_model:
            yield f"{path}.context.{name}", (f"caches of all layers belong to a model (level {LEVEL}); here it is "
                                             f"{name.removesuffix('s')}")
        return
    for name in of_layer:
        yield f"{path}.context.{name}", f"the cache of one layer; a model (level {LEVEL}) has {name}s of all of them"
    for name in INPUTS:
        if name not in entry.inputs:
            yield f"{path}.inputs.{name}", f"missing; a model (level {LEVEL}) is called with {', '.join(INPUTS)}"
    yield from _config_problems(path, entry, of_model)


def _config_problems(path: str, entry: EntryRow, caches: list[str]) -> Iterator[Problem]:
    config = entry.init.get("config")
    if not isinstance(config, dict):
        yield f"{path}.init.config", f"{'missing' if config is None else repr(config)}; a model's config is needed"
        return
    if config.get("dtype") not in DTYPES:
        yield f"{path}.init.config.dtype", one_of(config.get("dtype"), DTYPES)
    layers = config.get("num_hidden_layers")
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        yield f"{path}.init.config.num_hidden_layers", f"{layers!r} is not a number of at least 1"
        return
    for name in caches:
        shape = entry.context[name].shape
        if shape and shape[0] != layers:
            yield f"{path}.context.{name}.shape[0]", f"{shape[0]!r} is not {layers}, the config's layers"
