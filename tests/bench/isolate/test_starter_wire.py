"""What a starter and a supervisor say to each other, and what /proc shows of a forked worker."""

import ctypes
import os
import sys

import pytest

from fastkernels.bench.isolate.starter import label, wire

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


def test_a_message_of_any_length_arrives_with_its_descriptors():
    ours, theirs = wire.open_pair()
    reading, writing = os.pipe()
    with ours, theirs:
        wire.send(ours, {"do": "spawn", "env": {"LONG": "x" * 3_000_000}}, [writing, reading])
        message, fds = wire.receive(theirs)
    assert (message["do"], len(message["env"]["LONG"]), len(fds)) == ("spawn", 3_000_000, 2)
    os.write(fds[0], b"through the copy")
    assert os.read(reading, 99) == b"through the copy"
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in (reading, writing, *fds):
        os.close(fd)


def test_messages_stay_apart_and_the_end_is_told():
    ours, theirs = wire.open_pair()
    with theirs:
        with ours:
            wire.send(ours, {"id": 1})
            wire.send(ours, {"id": 2})
        assert [wire.receive(theirs)[0]["id"] for _ in range(2)] == [1, 2]
        with pytest.raises(EOFError):
            wire.receive(theirs)


def test_a_message_that_has_lost_its_descriptors_is_an_error(monkeypatch):
    ours, theirs = wire.open_pair()
    monkeypatch.setattr(wire, "MOST_FDS", 1)
    with ours, theirs:
        wire.send(ours, {"id": 1}, [0, 1, 2])
        with pytest.raises(OSError, match="lost its descriptors"):
            wire.receive(theirs)


@pytest.mark.parametrize(("texts", "shown"), [
    (["one", "two"], b"one\0two\0" + bytes(8)), (["much too long for here", "two"], b"two\0" + bytes(12)),
    ([], bytes(16)), (["fills it to the"], b"fills it to the\0")])
def test_only_what_fits_is_shown(texts, shown):
    area = ctypes.create_string_buffer(b"old words stay n", 24)
    label._write(ctypes.addressof(area), ctypes.addressof(area) + 16, texts)
    assert area.raw[:16] == shown
    assert area.raw[16:] == bytes(8)
