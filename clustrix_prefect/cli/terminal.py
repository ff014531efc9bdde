"""What commands print, for people on a terminal, for pipes and for programs, and what they ask."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wider than any line: nothing is folded where no terminal has a width.
_NO_WIDTH = 1_000_000


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2))


def print_table(
    rows: Iterable[Sequence[str | Text]],
    header: Sequence[str] = (),
    *,
    right: Sequence[int] = (),
    widths: Sequence[int] = (),
    file: TextIO | None = None,
) -> None:
    """Print columns: folded to the width of a terminal, and one line a row anywhere else.

    Args:
        rows: The cells. A `Text` may have a colour, which is seen on a terminal only, and not where
            NO_COLOR is set.
        header: The names of the columns, if they have any.
        right: Which columns are aligned to the right.
        widths: How wide the first columns are at least.
        file: Where to print; by default standard output.
    """
    file = sys.stdout if file is None else file
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(header))
    for index in range(max([len(header), *map(len, rows)])):
        table.add_column(
            header[index] if header else "",
            justify="right" if index in right else "left",
            min_width=widths[index] if index < len(widths) else None,
            overflow="fold",
        )
    for row in rows:
        # Cells are other people's texts: nothing in them is markup.
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console = Console(file=file, width=None if file.isatty() else _NO_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=file)


def confirmed(question: str) -> bool:
    """Ask on the terminal; anything but a yes is a no, and so is nobody who could answer."""
    try:
        with redirect_stdout(sys.stderr):  # a program may read what is printed
            answer = input(f"{question} [y/N] ")
    except EOFError:
        print(file=sys.stderr)
        return False
    return answer.strip().lower() in ("y", "yes")
