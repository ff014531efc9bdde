"""How long packages and files of a size take to a cluster and back."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape as escape_xml
from pathlib import Path
from tempfile import TemporaryDirectory

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.filesystem.cluster_filesystem import ClusterFileSystem
from clustrix_prefect.validation.report import amount_words

_DASHES = {"file there": "none", "file back": "6 3", "package there and back": "2 2"}
_GOLDEN_ANGLE = 137.508
_LINE = 14


@dataclass(frozen=True)
class Measured:
    """One transfer.

    Attributes:
        cluster: Where to, or from.
        what: "file there", "file back" or "package there and back".
        size: In bytes.
        seconds: How long it took.
    """

    cluster: str
    what: str
    size: int
    seconds: float

    @property
    def key(self) -> str:
        """What tells it from others of the same run."""
        return f"{self.cluster} {self.what} {self.size}"


class Damaged(Exception):
    """What arrived is not what was sent."""


def measure_files(name: str, cluster: ClusterBlock, sizes: Sequence[int]) -> Iterator[Measured]:
    """Send and fetch a file of each size; its content is new each time, so all of it travels.

    Raises:
        ClustrixError: The cluster cannot be reached.
        OSError: The file cannot be written.
        Damaged: What came back is something else.
    """
    files = ClusterFileSystem(cluster)
    files.exists("~")  # the connection is not what is measured
    with TemporaryDirectory() as folder:
        for size in sizes:
            here, back = Path(folder, "here"), Path(folder, "back")
            here.write_bytes(os.urandom(size))
            there = f"~/.clustrix-prefect-transfer-{uuid.uuid4().hex}"
            try:
                began = time.perf_counter()
                files.put_file(str(here), there)
                yield Measured(name, "file there", size, time.perf_counter() - began)
                began = time.perf_counter()
                files.get_file(there, str(back))
                seconds = time.perf_counter() - began
                if _digest(back) != _digest(here):
                    raise Damaged(f"A file of {size} bytes came back as another.")
                yield Measured(name, "file back", size, seconds)
            finally:
                with suppress(FileNotFoundError):
                    files.rm_file(there)


def measure_packages(
    name: str, sizes: Sequence[int], call: Callable[[bytes], bytes]
) -> Iterator[Measured]:
    """Call something far away with arguments of each size, which it gives back.

    Raises:
        Damaged: What came back is something else.
    """
    call(b"")  # starting the workers is not what is measured
    for size in sizes:
        content = os.urandom(size)
        began = time.perf_counter()
        answer = call(content)
        seconds = time.perf_counter() - began
        if answer != content:
            raise Damaged(f"An argument of {size} bytes came back as another.")
        yield Measured(name, "package there and back", size, seconds)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def plot(measured: Sequence[Measured], earlier: Sequence[Mapping[str, float]]) -> str:
    """Time against size, both logarithmic, as an image in a data URI.

    Args:
        measured: This run's transfers.
        earlier: The seconds of earlier runs, by key, the oldest first; drawn as rings.
    """
    lines = list(dict.fromkeys((one.cluster, one.what) for one in measured))
    clusters = list(dict.fromkeys(cluster for cluster, _ in lines))
    # As high as the names of all lines together.
    width, left, below = 640, 60, 50
    height = max(300, 40 + _LINE * (len(lines) + len(clusters)))
    points = [(one.size, one.seconds) for one in measured]
    points += [(one.size, run[one.key]) for one in measured for run in earlier if one.key in run]
    xs = [math.log10(max(size, 1)) for size, _ in points] or [0.0]
    ys = [math.log10(max(seconds, 1e-6)) for _, seconds in points] or [0.0]
    low_x, high_x = min(xs) - 0.2, max(xs) + 0.2
    low_y, high_y = math.floor(min(ys)), math.ceil(max(ys) + 0.01)

    def at(size: float, seconds: float) -> tuple[float, float]:
        x = (math.log10(max(size, 1)) - low_x) / (high_x - low_x)
        y = (math.log10(max(seconds, 1e-6)) - low_y) / (high_y - low_y)
        return left + x * (width - left - 200), height - below - y * (height - below - 20)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for power in range(low_y, high_y + 1):
        x, y = at(10**low_x, 10.0**power)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 200}" y2="{y:.1f}" '
                     'stroke="#dddddd"/>')  # fmt: skip
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">'
                     f"{10.0**power:g} s</text>")  # fmt: skip
    for size in sorted({one.size for one in measured}):
        x, _ = at(size, 1)
        parts.append(f'<text x="{x:.1f}" y="{height - below + 18}" text-anchor="middle">'
                     f"{amount_words(size)}</text>")  # fmt: skip
    label_y = 24
    for number, cluster in enumerate(clusters):
        # A colour for each cluster, no two alike, however many there are.
        colour = f"hsl({(210 + number * _GOLDEN_ANGLE) % 360:.1f},55%,42%)"
        parts.append(f'<text x="{width - 190}" y="{label_y}" fill="{colour}">'
                     f"{escape_xml(cluster[:30])}</text>")  # fmt: skip
        label_y += _LINE
        for what in (what for name, what in lines if name == cluster):
            ours = [one for one in measured if (one.cluster, one.what) == (cluster, what)]
            drawn = [at(one.size, one.seconds) for one in sorted(ours, key=lambda one: one.size)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
            stroke = f'fill="none" stroke="{colour}" stroke-dasharray="{_DASHES.get(what, "")}"'
            parts.append(f'<polyline points="{path}" {stroke}/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                      for x, y in drawn]  # fmt: skip
            for age, run in enumerate(reversed(earlier)):
                for one in (one for one in ours if one.key in run):
                    x, y = at(one.size, run[one.key])
                    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" '
                                 f'stroke="{colour}" opacity="{0.8**age:.2f}"/>')  # fmt: skip
            parts.append(f'<line x1="{width - 184}" y1="{label_y - 4}" x2="{width - 160}" '
                         f'y2="{label_y - 4}" {stroke}/>')  # fmt: skip
            parts.append(f'<text x="{width - 154}" y="{label_y}" fill="{colour}">{what}</text>')
            label_y += _LINE
    parts.append("</svg>")
    image = base64.b64encode("".join(parts).encode()).decode()
    return f"data:image/svg+xml;base64,{image}"
