"""Messages between supervisor and workers: a length and JSON text; nothing is ever unpickled."""

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A longer message is malformed."""

_LENGTH = struct.Struct(">I")

Message = dict[str, Any]
Look = Callable[[], None]

LOOK_S = 0.25
"""Time between two looks at the peer while it is waited for."""


class ProtocolError(Exception):
    """A message that is none: too long, no JSON, no object, or of another form than agreed."""


class PeerClosedError(Exception):
    """The other end has closed its socket."""


class DeadlineError(Exception):
    """No whole message came in time."""


def encode(message: Message) -> bytes:
    """Message -> length and JSON text."""
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {len(text)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    return _LENGTH.pack(len(text)) + text


def decode(text: bytes) -> Message:
    """JSON text -> message; ProtocolError for anything but an object."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"a JSON {type(message).__name__} where an object is due")
    return message


def send(sock: socket.socket, message: Message, deadline: float | None = None) -> None:
    """Send one message; PeerClosedError where nobody is left to read it, DeadlineError after `deadline` (monotonic)."""
    data = memoryview(encode(message))
    while data:
        _wait(sock, select.POLLOUT, deadline)
        try:
            sent = sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            raise PeerClosedError from None
        data = data[sent:]


def receive(sock: socket.socket, deadline: float | None = None, also: int | None = None,
            look: Look | None = None) -> Message:
    """Receive one message before `deadline` (monotonic seconds; None waits for ever).

    `also` is a descriptor that becomes readable when the peer has died; PeerClosedError follows once nothing is left
    to read. `look` is called every LOOK_S while nothing comes, and when something has. ProtocolError for a malformed
    message, DeadlineError when time is up.
    """
    (length,) = _LENGTH.unpack(_read(sock, _LENGTH.size, deadline, also, look))
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {length} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    return decode(_read(sock, length, deadline, also, look))


def _read(sock: socket.socket, size: int, deadline: float | None, also: int | None, look: Look | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        died = _wait(sock, select.POLLIN, deadline, also, look)
        try:
            part = sock.recv(size - len(data), socket.MSG_DONTWAIT)
        except BlockingIOError:
            if died:
                raise PeerClosedError from None
            continue
        except ConnectionResetError:
            raise PeerClosedError from None
        if not part:
            raise PeerClosedError
        data += part
    return bytes(data)


def _wait(sock: socket.socket, event: int, deadline: float | None, also: int | None = None,
          look: Look | None = None) -> bool:
    """Wait until the socket is ready or `also` is readable; True for the latter. DeadlineError when time is up."""
    poll = select.poll()
    poll.register(sock, event)
    if also is not None:
        poll.register(also, select.POLLIN)
    while True:
        left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        short = look is not None and (left_ms is None or left_ms > LOOK_S * 1000)
        ready = {fd for fd, _ in poll.poll(LOOK_S * 1000 if short else left_ms)}
        if look is not None:
            look()
        if ready:
            break
        if not short:
            raise DeadlineError
    return also is not None and also in ready
