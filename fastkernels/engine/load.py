"""Builds a model from its config and fills it with weights, this rank's share of both."""

import importlib
from pathlib import Path

import torch
from torch import nn

from fastkernels.engine.admission import refuse_unfit
from fastkernels.engine.checkpoint import Checkpoint
from fastkernels.engine.config import dtype_name, read_model_config
from fastkernels.engine.dummy_weights import dummy_weights
from fastkernels.engine.hub import find_model
from fastkernels.errors import ModelError, WeightsError, one_of, shown
from fastkernels.manifest.published import unsupported
from fastkernels.registry.classes import class_names
from fastkernels.registry.operators import baseline_root, operator_paths
from fastkernels.registry.sources import TaskSources
from fastkernels.registry.tree import TaskTree
from fastkernels.results import read_result
from fastkernels.runtime.weights import default_dtype, finish_weights

LOAD_FORMATS = ("auto", "dummy")
"""`auto`: safetensors files; `dummy`: random weights."""
BASELINE = "fastkernels.tasks.baseline"


def load_model(
    source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None,
    load_format: str = "auto", *, seed: int = 0, tasks: str = BASELINE, kernel_results: Path | None = None,
) -> nn.Module:  # fmt: skip
    """Return the model in evaluation mode, sharded over the tensor parallel group that is set (`set_tp_group`).

    source: a directory or a Hugging Face id. dtype: of weights and activations, the config's by default. seed: of dummy
    weights. tasks: package root of the task tree, the baseline's or an overlay's. kernel_results: results file of a run
    of the kernel tier; with it, DeploymentError where that has found a candidate of the overlay unfit. ModelError where
    the model cannot be built, WeightsError where its weights cannot be read or do not fit.
    """
    if load_format not in LOAD_FORMATS:
        raise ModelError(f"load_format: {one_of(load_format, LOAD_FORMATS)}")
    directory = find_model(source, with_weights=load_format != "dummy")
    config = read_model_config(directory)
    if kernel_results is not None:
        module, _ = find_class(config.architectures, shown(config.config_path))
        refuse_unfit(read_result(kernel_results), tasks, module)
    cls = model_class(config.architectures, shown(config.config_path), tasks)
    with torch.device(device), default_dtype(dtype or getattr(torch, dtype_name(config))):
        model = cls(config).eval().requires_grad_(False)
    if load_format == "dummy":
        model.load_weights(dummy_weights(model, seed))  # type: ignore[operator]
    else:
        load_checkpoint(model, Checkpoint(directory))
    finish_weights(model)
    return model


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load every tensor; WeightsError that names the tensor and its file where one does not fit."""
    try:
        model.load_weights(checkpoint)  # type: ignore[operator]
    except WeightsError as error:
        where = checkpoint.file_of.get(error.tensor, checkpoint.directory)
        raise WeightsError(f"{shown(where)}: {error}", error.tensor) from error


def model_class(architectures: list[str], where: str, tasks: str = BASELINE) -> type[nn.Module]:
    """The class of level 4 that the config's `architectures` name; ModelError where there is none."""
    module, name = find_class(architectures, where)
    found: type[nn.Module] = getattr(importlib.import_module(f"{tasks}.{module}"), name)
    return found


def find_class(architectures: list[str], where: str) -> tuple[str, str]:
    """Module, such as `L4.llama`, and name of that class; ModelError where there is none."""
    known = known_models()
    for name in architectures:
        if name in known:
            return known[name], name
    raise ModelError(f"{where}: architectures: {unsupported(architectures[0])}")


def known_models() -> dict[str, str]:
    """Module below the task root, such as `L4.llama`, of every `...ForCausalLM` and `...ForConditionalGeneration`."""
    root = baseline_root()
    sources = TaskSources(TaskTree(root))
    return {
        name: module
        for module, path in operator_paths(root).items() if module.startswith("L4.")
        for name in class_names(sources.read(path).tree) if "For" in name
    }  # fmt: skip
