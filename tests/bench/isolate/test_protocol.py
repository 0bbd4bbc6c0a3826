"""What is accepted as a message, and what is not."""

import json
import math
import socket
import struct
import time

import pytest

from fastkernels.bench.isolate import protocol
from fastkernels.bench.isolate.protocol import DeadlineError, PeerClosedError, ProtocolError


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def soon():
    return time.monotonic() + 2.0


def test_a_message_arrives_as_it_was_sent(pair):
    message = {"do": "call", "inputs": [1, 2.5, None, "x" * 10_000], "inf": float("inf")}
    protocol.send(pair[0], message)
    assert protocol.receive(pair[1], soon()) == message


@pytest.mark.parametrize("text", [b"no json", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(pair, text):
    pair[0].sendall(struct.pack(">I", len(text)) + text)
    with pytest.raises(ProtocolError):
        protocol.receive(pair[1], soon())


def test_an_announced_length_beyond_the_bound_is_refused_unread(pair):
    pair[0].sendall(struct.pack(">I", protocol.MAX_MESSAGE_BYTES + 1))
    with pytest.raises(ProtocolError, match="at most"):
        protocol.receive(pair[1], soon())


def test_a_message_beyond_the_bound_is_not_sent(monkeypatch, pair):
    monkeypatch.setattr(protocol, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(ProtocolError, match="at most"):
        protocol.send(pair[0], {"text": "x" * 200})


def test_half_a_message_is_no_message(pair):
    data = protocol.encode({"do": "call"})
    pair[0].sendall(data[:-1])
    with pytest.raises(DeadlineError):
        protocol.receive(pair[1], time.monotonic() + 0.05)


def test_a_peer_that_trickles_does_not_outlast_the_deadline(pair):
    pair[0].sendall(struct.pack(">I", 100) + b"{")
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        protocol.receive(pair[1], started + 0.1)
    assert time.monotonic() - started < 1.0


def test_a_closed_peer_is_told_from_a_slow_one(pair):
    pair[0].close()
    with pytest.raises(PeerClosedError):
        protocol.receive(pair[1], soon())
    with pytest.raises(PeerClosedError):
        protocol.send(pair[1], {"do": "call"}, soon())


def test_numbers_that_are_none_cross(pair):
    protocol.send(pair[0], {"x": float("nan")})
    assert math.isnan(protocol.receive(pair[1], soon())["x"])
    assert json.loads(protocol.encode({"a": 1})[4:]) == {"a": 1}
