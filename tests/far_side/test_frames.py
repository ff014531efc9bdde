"""Frames, and the link that carries them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

import pytest

from clustrix_prefect.far_side.wire.frames import (
    CHUNK_SIZE,
    HEADER,
    INLINE_LIMIT,
    FileBody,
    FrameError,
    Inbox,
    Outbox,
    OutgoingStream,
    encode,
)
from clustrix_prefect.far_side.wire.link import Link


def drain(outbox: Outbox) -> list[bytes]:
    """Everything that an outbox gives out, in order."""
    frames = []
    while outbox:
        taken = outbox.take()
        if isinstance(taken, OutgoingStream):
            frames.append(taken.next_frame())
            if not taken.finished:
                outbox.put_back(taken)
        else:
            frames.append(taken)
    return frames


def test_messages_survive_any_fragmentation():
    messages = [({"n": n, "text": "ü\ud800\n"}, os.urandom(n)) for n in range(50)]
    data = b"".join(encode(message, body) for message, body in messages)
    for size in (1, 7, 64, len(data)):
        inbox = Inbox()
        received = []
        for start in range(0, len(data), size):
            received += inbox.feed(data[start : start + size])
        assert received == messages


def test_a_large_body_lets_messages_pass(tmp_path):
    large = os.urandom(INLINE_LIMIT + 1)
    (tmp_path / "file").write_bytes(b"head" + large)
    outbox = Outbox()
    outbox.put({"op": "large"}, large)
    outbox.put({"op": "file"}, FileBody(str(tmp_path / "file"), 4))
    outbox.put({"op": "small"}, b"inline")
    frames = drain(outbox)
    assert max(len(frame) for frame in frames) <= CHUNK_SIZE + HEADER.size
    inbox = Inbox()
    received = [item for frame in frames for item in inbox.feed(frame)]
    assert [(m["op"], b) for m, b in received] == [
        ("small", b"inline"),
        ("large", large),
        ("file", large),
    ]


def test_streams_take_turns():
    outbox = Outbox()
    for name in ("a", "b"):
        outbox.put({"op": name}, os.urandom(3 * INLINE_LIMIT))
    streams = [HEADER.unpack_from(frame)[1] for frame in drain(outbox)[1:]]
    assert streams[:4] == [1, 2, 1, 2]


def test_what_is_no_frame_is_refused():
    with pytest.raises(FrameError, match="Welcome"):
        Inbox().feed(b"Welcome to ndoli\n")
    with pytest.raises(FrameError, match="not announced"):
        Inbox().feed(HEADER.pack(1, 5, 0))
    with pytest.raises(ValueError):
        Inbox().feed(HEADER.pack(0, 3, 0) + b"{]}")


class Peer:
    """One end of a link over a socket pair."""

    def __init__(self, end: socket.socket, answer: bool = False, silence: float = 30.0) -> None:
        self.received: list[tuple[dict, bytes]] = []
        self.reasons: list[BaseException] = []
        self.changed = threading.Condition()
        self.socket = end

        self.may_go_on = threading.Event()

        def on_message(message, body):
            if message.get("hold"):
                self.may_go_on.wait(60)
            if answer and message.get("echo"):
                self.link.send({"back": message["echo"]}, body)
            with self.changed:
                self.received.append((message, body))
                self.changed.notify_all()

        def on_end(reason):
            with self.changed:
                self.reasons.append(reason)
                self.changed.notify_all()

        self.link = Link(end.recv, end.sendall, on_message, on_end, {"event": "ping"}, silence)
        self.link.start()

    def wait(self, condition, seconds=60.0):
        with self.changed:
            assert self.changed.wait_for(condition, seconds)


@pytest.fixture
def sockets():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        # A thread that stays blocked on a closed socket may wake up on a later one, which has
        # been given the same number.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    time.sleep(0.05)
    for end in pair:
        end.close()


def test_much_in_both_directions_at_once_does_not_deadlock(sockets):
    here, there = Peer(sockets[0]), Peer(sockets[1], answer=True)
    body = os.urandom(5_000_000)
    for n in range(1, 5):
        here.link.send({"echo": n}, body)
        there.link.send({"own": n}, body)
    here.wait(lambda: len(here.received) == 8)
    assert sorted(m.get("back", 0) for m, _ in here.received) == [0, 0, 0, 0, 1, 2, 3, 4]
    assert all(received == body for _, received in here.received)
    assert here.link.bytes_received == there.link.bytes_sent > 40_000_000


def test_many_small_messages_keep_their_order(sockets):
    here, there = Peer(sockets[0]), Peer(sockets[1])
    for n in range(20_000):
        here.link.send({"n": n})
    there.wait(lambda: len(there.received) == 20_000)
    assert [message["n"] for message, _ in there.received] == list(range(20_000))


def test_an_end_is_noticed_once(sockets):
    here, there = Peer(sockets[0]), Peer(sockets[1])
    sockets[1].shutdown(socket.SHUT_RDWR)
    here.wait(lambda: here.reasons)
    there.wait(lambda: there.reasons)
    time.sleep(0.1)
    assert len(here.reasons) == len(there.reasons) == 1
    assert here.link.wait_ended(0)


def test_a_silent_peer_is_given_up(sockets):
    here = Peer(sockets[0], silence=2.0)
    began = time.monotonic()
    here.wait(lambda: here.reasons, 60)
    assert isinstance(here.reasons[0], TimeoutError)
    assert 1.5 < time.monotonic() - began < 60


def test_dealing_with_a_message_is_no_silence(sockets):
    here, there = Peer(sockets[0], silence=2.0), Peer(sockets[1])
    there.link.send({"hold": True})
    time.sleep(4.5)
    assert not here.reasons
    here.may_go_on.set()
    there.link.send({"n": 1})
    here.wait(lambda: {"n": 1} in [message for message, _ in here.received])


def test_a_quiet_peer_is_not(sockets):
    here, there = Peer(sockets[0], silence=7.0), Peer(sockets[1])
    time.sleep(9)
    assert not here.reasons
    assert {"event": "ping"} in [message for message, _ in here.received]
    assert there.reasons == []


# --- what nobody asked for ------------------------------------------------------------------


def test_a_stream_is_held_to_what_was_asked_for():
    asked = {"a": 10, "b": 0}
    inbox = Inbox(largest=lambda message: asked[message["re"]])
    inbox.feed(encode({"re": "a", "stream": 1, "size": 10}))
    with pytest.raises(FrameError, match="longer than announced"):
        inbox.feed(HEADER.pack(1, 1, 11) + b"x" * 11)
    for size in (11, -1, 2**40):
        with pytest.raises(FrameError, match="nobody asked"):
            Inbox(largest=lambda message: 10).feed(encode({"re": "a", "stream": 1, "size": size}))


def test_a_stream_in_many_chunks_is_counted_together():
    inbox = Inbox(largest=lambda message: 100)
    inbox.feed(encode({"re": "a", "stream": 1, "size": 100}))
    for _ in range(10):
        inbox.feed(HEADER.pack(1, 1, 10) + b"x" * 10)
    with pytest.raises(FrameError, match="longer than announced"):
        inbox.feed(HEADER.pack(1, 1, 1) + b"x")


def test_an_attachment_is_no_larger_than_honest_ones():
    body = b"x" * (INLINE_LIMIT + 1)
    with pytest.raises(FrameError, match="attachment"):
        Inbox(largest=lambda message: 0).feed(encode({"re": 1}, body)[:100])
    assert len(Inbox().feed(encode({"re": 1}, body))) == 1


@pytest.mark.parametrize("text", [b"[]", b"7", b'"x"', b"null"])
def test_a_message_is_an_object(text):
    with pytest.raises(FrameError, match="not a message"):
        Inbox().feed(HEADER.pack(0, len(text), 0) + text)
