"""Whether bytes are worth compressing, and doing it."""

from __future__ import annotations

import time
import zlib

_LEVEL = 1
_SAMPLE_BYTES = 8 * 1024
_SAMPLES = 4
# After chunks that did not shrink, so many at most go without being looked at.
_LONGEST_PAUSE = 15
# Less than this is not worth the far side's time to undo.
_WORTH_IT = 0.98


class Compressor:
    """Compresses chunks where they shrink.

    Args:
        unhurried: Also where compressing takes longer than sending would. For a large value
            that is sent once for many calls the bytes count; for a file, the time.
    """

    def __init__(self, unhurried: bool) -> None:
        self._unhurried = unhurried
        self._sent_bytes = 0
        self._sent_seconds = 0.0
        self._pause = 0
        self._pause_left = 0

    def sent(self, size: int, seconds: float) -> None:
        """Note how long so many bytes were under way, for the next decision."""
        self._sent_bytes += size
        self._sent_seconds += seconds

    def compress(self, data: bytes | memoryview) -> bytes | None:
        """Return the compressed bytes, or None if they had better go as they are."""
        if self._pause_left:
            self._pause_left -= 1
            return None
        began = time.thread_time()
        sample = b"".join(_samples(data))
        share = len(zlib.compress(sample, _LEVEL)) / max(1, len(sample))
        speed = len(sample) / max(1e-6, time.thread_time() - began)
        if share > _WORTH_IT or (not self._unhurried and self._link_speed() > speed):
            self._pause = self._pause_left = min(2 * self._pause + 1, _LONGEST_PAUSE)
            return None
        self._pause = 0
        packed = zlib.compress(data, _LEVEL)
        return packed if len(packed) < len(data) * _WORTH_IT else None

    def _link_speed(self) -> float:
        """Bytes a second, as far as is known."""
        return self._sent_bytes / self._sent_seconds if self._sent_seconds else float("inf")


def _samples(data: bytes | memoryview) -> list[bytes | memoryview]:
    if len(data) <= _SAMPLES * _SAMPLE_BYTES:
        return [data]
    stride = (len(data) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    return [data[n * stride : n * stride + _SAMPLE_BYTES] for n in range(_SAMPLES)]
