"""Runs a function as every rank of a tensor parallel group: one process a rank, NCCL on GPUs, gloo on CPUs."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from fastkernels.errors import DeviceError, FastKernelsError, ModelError
from fastkernels.runtime.parallel import ProcessGroup, set_tp_group


def run_ranks(function: Callable[..., None], tp: int, device: str, *args: Any) -> None:
    """Call `function(device, *args)`, which can be pickled, within its group on each of `tp` ranks.

    device: `cpu` or `cuda`; with one rank no process is started. ModelError with the message of the first rank that
    fails, DeviceError where there are too few GPUs.
    """
    if device == "cuda" and tp > torch.cuda.device_count():
        raise DeviceError(f"TP {tp}: needs as many GPUs, {torch.cuda.device_count()} are here")
    if tp == 1:
        function(torch.device(device), *args)
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_rank, (tp, device, folder, function, args), nprocs=tp)  # type: ignore[no-untyped-call]
        except (ProcessRaisedException, ProcessExitedException) as error:
            told = sorted(Path(folder).glob("error*"))
            raise ModelError(told[0].read_text() if told else f"a rank of TP {tp} failed:\n{error}") from error


def _rank(rank: int, tp: int, device: str, folder: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=tp)
    try:
        with set_tp_group(ProcessGroup()):
            function(place, *args)
    except FastKernelsError as error:
        (Path(folder) / f"error{rank}").write_text(str(error))
        sys.exit(1)
    finally:
        dist.destroy_process_group()
