"""Main loop of a worker process: `python -m fastkernels.bench.isolate.worker --fd N --role candidate`."""

import argparse
import ctypes
import gc
import io
import os
import resource
import socket
import sys
import traceback
from typing import Protocol

from fastkernels.bench.isolate.protocol import Message, PeerClosedError, receive, send
from fastkernels.bench.isolate.sandbox import confine, decode
from fastkernels.bench.isolate.stacks import answer_with_stacks

MAX_FILE_BYTES = 4 * 1024**3
"""Largest file that a candidate's process may write, its log among them."""

ROLES = ("baseline", "ranks", "runner", "candidate")

_PR_SET_DUMPABLE = 4


class Answers(Protocol):
    """What a worker serves."""

    def handle(self, message: Message) -> Message:
        """Answer one request."""


def main(argv: list[str] | None = None) -> None:
    """Serve requests until the supervisor closes its end or dies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the connection to the supervisor")
    parser.add_argument("--role", choices=ROLES, required=True,
                        help="trusted side, trusted side of several ranks, baseline in timed sections, or candidate")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--parent", type=int, required=True,
                        help="process id of the supervisor; 0: whichever started this")
    parser.add_argument("--arenas", default="", help="descriptors of the shared memory files, comma separated")
    parser.add_argument("--sandbox", type=decode, help="what the candidate's process is kept from, as JSON")
    parser.add_argument("--scratch", default="", help="the directory that a candidate may write to")
    parser.add_argument("--builds", default="", help="another one, for what it compiles")
    parser.add_argument("--hidden", action="append", default=[], help="a file or directory that it must not see")
    args = parser.parse_args(argv)
    arenas = [int(fd) for fd in args.arenas.split(",") if fd]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if args.role == "candidate":
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
        print_by_line()
        confine(args.sandbox, args.scratch, args.parent or os.getppid(), [args.fd, *arenas], args.hidden,
                [args.builds] if args.builds else [])
    elif args.device == "cpu":
        hide_memory()
    service = open_service(args.role, args.device, arenas)
    if args.role == "candidate":
        answer_with_stacks()
    serve(socket.socket(fileno=args.fd), service)


def print_by_line() -> None:
    """Let what is printed reach the log line by line: a process that is killed loses what it has not written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def hide_memory() -> None:
    """Keep processes of the same user from reading this one's memory, which holds expected values; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def open_service(role: str, device_name: str, arenas: list[int]) -> Answers:
    """Import torch and build the service of this role, with its device ready; one GPU of several is the current one."""
    import torch

    from fastkernels.bench.isolate.arena import open_arenas

    device = torch.device(device_name)
    if device.index is not None:
        torch.cuda.set_device(device)
    service: Answers
    if role == "ranks":
        from fastkernels.bench.isolate.rank_baseline import GroupBaseline

        service = GroupBaseline(device.type, arenas)
    elif role == "baseline":
        from fastkernels.bench.isolate.baseline_worker import BaselineService

        service = BaselineService(device, open_arenas(device, arenas))
        service.bells = tuple(arenas[3::4])
    elif role == "runner":
        from fastkernels.bench.isolate.runner_worker import RunnerService

        service = RunnerService(device, open_arenas(device, arenas))
        service.bells = tuple(arenas[3::4])
    else:
        from fastkernels.bench.isolate.candidate_worker import CandidateService

        service = CandidateService(device, open_arenas(device, arenas))
        service.bells = tuple(arenas[3::4])
    gc.collect()
    gc.freeze()  # what is loaded now stays; collecting after a scenario then looks at the scenario's objects alone
    return service


def serve(sock: socket.socket, service: Answers) -> None:
    """Answer requests in order; an error of the harness itself is answered with its traceback."""
    while True:
        try:
            message = receive(sock)
        except PeerClosedError:
            os._exit(0)
        number = message.pop("id", None)
        try:
            reply: Message = service.handle(message)
        except Exception:
            reply = {"error": traceback.format_exc()}
        try:
            send(sock, {**reply, "id": number})
        except PeerClosedError:
            os._exit(0)


if __name__ == "__main__":
    main()
