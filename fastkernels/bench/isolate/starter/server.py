"""Main loop of a starter: `python -m fastkernels.bench.isolate.starter.server --kind candidate --fd N ...`.

It imports what workers of its kind need, runs no operator, opens no device, has one thread and knows no secret, so that
each fork is whole and clean. Every connection is a supervisor's; what a lost one has had started is killed.
"""

import argparse
import gc
import importlib
import os
import resource
import select
import signal
import socket
import time
from dataclasses import dataclass

from fastkernels.bench.isolate import namespaces
from fastkernels.bench.isolate.starter import sources, wire
from fastkernels.bench.isolate.starter.become import Job, become
from fastkernels.bench.isolate.starter.wire import Message
from fastkernels.bench.isolate.worker import hide_memory

PRELOADED = {
    "candidate": ("torch", "triton", "fastkernels.bench.isolate.worker", "fastkernels.bench.isolate.candidate_worker"),
    "trusted": ("torch", "triton", "fastkernels.bench.isolate.worker", "fastkernels.bench.isolate.baseline_worker"),
}
"""What a starter imports, by kind; a candidate's must not have what `passthrough.HARNESS` names."""

RELAY_S = 2.0
"""How long a relay may take to end what is below it before it is killed."""


@dataclass
class Server:
    """Answers the requests of its supervisors until the one that started it is gone."""

    kind: str
    door: socket.socket
    """Where further supervisors send their connections."""
    children: dict[socket.socket, set[int]]
    """Processes that each supervisor has had started and has not reaped; its owner's connection comes first."""
    stamps: dict[str, sources.Stamp]
    digest: str

    def serve(self) -> Job:
        """Answer requests; returns in a forked child alone, with what it shall become."""
        owner = next(iter(self.children))
        while True:
            for ready in select.select([self.door, *self.children], [], [])[0]:
                if ready is self.door:
                    self._admit()
                    continue
                try:
                    message, fds = wire.receive(ready)
                    job = self._answer(ready, message, fds)
                except (OSError, EOFError):
                    self._forget(ready)
                    if ready is owner:
                        os._exit(0)
                    continue
                if job is not None:
                    self._let_go()
                    return job

    def _admit(self) -> None:
        try:
            _, (fd,) = wire.receive(self.door)
        except (OSError, EOFError, ValueError):  # the last copy of the door's other end is closed
            return
        self.children[socket.socket(fileno=fd)] = set()

    def _answer(self, connection: socket.socket, message: Message, fds: list[int]) -> Job | None:
        """Do what a request asks for; a Job in the child that it has had forked."""
        if message["do"] == "reap":
            reply: Message = {"status": self._reap(connection, message["pid"])}
        elif refusal := self._refusal(message):
            reply = {"refused": refusal}
        else:
            try:
                pid = os.fork()
            except OSError as error:
                reply = {"failed": str(error)}
            else:
                if pid == 0:
                    return Job(message, fds, os.getppid())
                self.children[connection].add(pid)
                reply = {"pid": pid}
        for fd in fds:
            os.close(fd)
        wire.send(connection, {**reply, "id": message["id"]})
        return None

    def _refusal(self, message: Message) -> str:
        """Why no worker is forked of this starter; '' where one is."""
        if message["digest"] != self.digest:
            return "the environment is another"
        changed = sources.first_changed(self.stamps)
        return f"{changed} has changed" if changed else ""

    def _reap(self, connection: socket.socket, pid: int) -> int | None:
        """Exit status of a child of this supervisor's, negative for a signal; None while it runs."""
        if pid not in self.children[connection]:
            return None
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        self.children[connection].discard(pid)
        return os.waitstatus_to_exitcode(status)

    def _forget(self, connection: socket.socket) -> None:
        """End what a supervisor that is gone has left: a relay ends all below it on SIGTERM, which takes a moment."""
        left = self.children[connection]
        for pid in left:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + RELAY_S
        while any(self._reap(connection, pid) is None for pid in tuple(left)) and time.monotonic() < end:
            time.sleep(0.005)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        del self.children[connection]
        connection.close()

    def _let_go(self) -> None:
        """Close in a child what is the starter's."""
        self.door.close()
        for connection in self.children:
            connection.close()
        self.children.clear()


def main() -> None:
    """Import, then serve; become a worker in each child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=tuple(PRELOADED), required=True, help="whose workers it starts")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the connection to its owner")
    parser.add_argument("--door", type=int, required=True, help="descriptor on which other connections arrive")
    parser.add_argument("--parent", type=int, required=True, help="process id of its owner")
    parser.add_argument("--room", help="takes up the space for its workers' own words")
    args = parser.parse_args()
    namespaces.die_with(args.parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hide_memory()
    for name in PRELOADED[args.kind]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    server = Server(args.kind, socket.socket(fileno=args.door), {socket.socket(fileno=args.fd): set()},
                    sources.stamps_of_loaded(), sources.environment_digest(os.environ))
    job = server.serve()
    del server
    become(job)


if __name__ == "__main__":
    main()
