"""Main loop of a worker process: `python -m fastkernels.bench.isolate.worker --fd N --role candidate`."""

import argparse
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING

from fastkernels.bench.isolate.memory import limit_data
from fastkernels.bench.isolate.protocol import Message, PeerClosedError, receive, send

if TYPE_CHECKING:
    from fastkernels.bench.isolate.service import Service

MAX_FILE_BYTES = 4 * 1024**3
"""Largest file that a candidate's process may write, its log among them."""

_PR_SET_PDEATHSIG = 1


def main(argv: list[str] | None = None) -> None:
    """Serve requests until the supervisor closes its end or dies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the connection to the supervisor")
    parser.add_argument("--role", choices=("baseline", "candidate"), required=True, help="trusted side or candidate")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    parser.add_argument("--arenas", default="", help="descriptors of the shared memory files, comma separated")
    parser.add_argument("--memory-limit", type=int, default=None, help="bytes of private memory beyond the start")
    args = parser.parse_args(argv)
    if args.role == "candidate":
        die_with(args.parent)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    service = open_service(args.role, args.device, [int(fd) for fd in args.arenas.split(",") if fd])
    if args.memory_limit is not None:
        limit_data(args.memory_limit)
    serve(socket.socket(fileno=args.fd), service)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the supervisor dies, since a hung candidate reads no end of file."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def open_service(role: str, device_name: str, arenas: list[int]) -> "Service":
    """Import torch and build the service of this role, with its device ready."""
    import torch

    from fastkernels.bench.isolate.arena import Arena, open_memory

    device = torch.device(device_name)
    torch.zeros(1, device=device)
    opened = [Arena(open_memory(device, fd)) for fd in arenas]
    if role == "baseline":
        from fastkernels.bench.isolate.baseline_worker import BaselineService

        service: Service = BaselineService(device, opened)
    else:
        from fastkernels.bench.isolate.candidate_worker import CandidateService

        service = CandidateService(device, opened)
    gc.collect()
    gc.freeze()  # what is loaded now stays; collecting after a scenario then looks at the scenario's objects alone
    return service


def serve(sock: socket.socket, service: "Service") -> None:
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
