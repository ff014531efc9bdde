"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_SHOWN = re.compile(r"^<!-- as in (\S+) -->\n```(\w+)\n.*?^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<why>[^>]+?) -->\s*\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Code:
    """A block of code in a page.

    Attributes:
        page: Where it is, from the root of the repository.
        line: The line of its first line there.
        language: What stands behind the opening fence.
        text: The code, without the fence.
        why_not_run: The reason why no test runs it, or None.
    """

    page: str
    line: int
    language: str
    text: str
    why_not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page that people read: the README, the documentation, and how to take part."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob(".github/*.md"))]


def code_of(page: Path) -> Iterator[Code]:
    """Yield the blocks of code of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Code(
            str(page.relative_to(ROOT)),
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            textwrap.dedent(found["text"]),
            found["why"],
        )


def every_code(*languages: str) -> list[Code]:
    """Return all blocks of code in these languages."""
    found = (code for page in pages() for code in code_of(page))
    return [code for code in found if code.language in languages]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    without_code = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", without_code, re.MULTILINE):
        text, named = re.match(r"(.*?)(?:\s*\{ ?#([\w-]+) ?\})?$", heading).groups()  # type: ignore[union-attr]
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "").lower()
        found.add(named or re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return found


def with_files(text: str) -> str:
    """Return a page's text with the files that it shows (`<!-- as in PATH -->`) as they are now."""
    return _SHOWN.sub(
        lambda shown: (
            f"<!-- as in {shown[1]} -->\n```{shown[2]}\n{(ROOT / shown[1]).read_text()}```"
        ),
        text,
    )
