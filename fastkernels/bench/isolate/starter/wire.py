"""Messages between a supervisor and a starter: JSON in a memory file, beside the descriptors that it speaks of."""

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

MOST_FDS = 250
"""Descriptors of one message; the kernel takes 253."""

Message = dict[str, Any]


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection that keeps messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(connection: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message of any length with copies of `fds`; OSError where nobody reads."""
    body = os.memfd_create("fastkernels-message", os.MFD_CLOEXEC)
    try:
        with open(body, "wb", closefd=False) as file:
            file.write(json.dumps(message).encode())
        socket.send_fds(connection, [b"message"], [body, *fds])
    finally:
        os.close(body)


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """Receive one message and its descriptors, which are the caller's to close; EOFError where the peer is gone."""
    fds = array.array("i")
    # socket.recv_fds of Python 3.11 and 3.12 passes no flags on, so that what it receives is inherited by all programs
    head, beside, flags, _ = connection.recvmsg(16, socket.CMSG_LEN(MOST_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
    if not head:
        raise EOFError("the other end is closed")
    if flags & socket.MSG_CTRUNC or not fds:
        for fd in fds:
            os.close(fd)
        raise OSError(f"a message has lost its descriptors ({len(fds)} arrived)")
    with open(fds[0], "rb") as file:
        file.seek(0)  # the sender's offset is shared
        return json.loads(file.read()), list(fds[1:])
