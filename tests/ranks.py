"""Processes that are the ranks of a gloo or NCCL group, kept for all tests of a session."""

import multiprocessing
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TIMEOUT_S = 120
ROOT = Path(__file__).parents[1]


class Ranks:
    """Calls a function on every rank, within its tensor parallel group."""

    def __init__(self, size: int, folder: Path, backend: str = "gloo") -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(size)]
        self._ends = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=serve, args=(rank, size, folder / "store", theirs, backend), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self._processes:
            process.start()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """What the function, one that can be pickled, returns on each rank; AssertionError with a rank's traceback."""
        for end in self._ends:
            end.send((function, args, kwargs))
        answers = []
        for rank, end in enumerate(self._ends):
            assert end.poll(TIMEOUT_S), f"rank {rank} has not answered within {TIMEOUT_S} s"
            answers.append(end.recv())
        failed = [f"rank {rank}:\n{text}" for rank, (text, _) in enumerate(answers) if text]
        assert not failed, "\n".join(failed)
        return [answer for _, answer in answers]

    def stop(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(10)
            process.kill()


def serve(rank: int, size: int, store: Path, pipe: Connection, backend: str) -> None:
    """A rank's process: answers calls until the pipe is closed; with NCCL it has a GPU of its own."""
    import torch
    import torch.distributed as dist

    from fastkernels.runtime.parallel import ProcessGroup, set_tp_group

    sys.path.append(str(ROOT))  # pytest names test modules from here: `tests.tasks.L1.test_allreduce`
    torch.set_num_threads(1)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=size)
    with set_tp_group(ProcessGroup()):
        while True:
            try:
                function, args, kwargs = pipe.recv()
            except EOFError:
                break
            try:
                pipe.send(("", function(*args, **kwargs)))
            except Exception:
                pipe.send((traceback.format_exc(), None))
    dist.destroy_process_group()
