"""The bodies of HTTP answers, unpacked without letting a small one become a huge one."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

# What these make of a byte is limited, to about a thousand.
TAKEN = "gzip, deflate"
_UNPACKED = {"gzip", "x-gzip", "deflate"}


class Overpacked(httpx.DecodingError):
    """An answer is packed more than once, or in another way than was asked for."""


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body of an answer that is being streamed, piece by piece.

    Each packing multiplies what comes out: 298 bytes that were packed three times are 3 GiB.

    Raises:
        Overpacked: It is packed more than once, or in another way than was asked for.
    """
    named = response.headers.get_list("Content-Encoding", split_commas=True)
    packings = [name.strip().lower() for name in named if name.strip().lower() != "identity"]
    if len(packings) > 1 or not _UNPACKED.issuperset(packings):
        shown = ", ".join(packings)[:100]
        raise Overpacked(f"the answer is packed as {shown!r}", request=response.request)
    yield from response.iter_bytes()
