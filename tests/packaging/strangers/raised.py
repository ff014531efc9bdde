"""Exceptions that know how to be pickled, or set themselves up in `__init__`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import xml.etree.ElementTree as xml
from typing import Any


class NetError(OSError):
    def __init__(self, status: int, url: str) -> None:
        super().__init__(f"{status} from {url}")
        self.status, self.url = status, url

    def __reduce__(self) -> Any:
        return NetError, (self.status, self.url)


class ApiError(OSError):
    def __init__(self, *args: Any, response: Any = None) -> None:
        self.response = response
        super().__init__(*args)


class Refused(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code, self.why = code, why

    def __reduce__(self) -> Any:
        return Refused, (self.code, self.why)


class TooLarge(Exception):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} is more than {limit}")
        self.size, self.limit = size, limit


class KeywordOnly(Exception):
    def __init__(self, *, detail: str) -> None:
        self.detail = detail
        super().__init__(f"because {detail}")


class Worded(Exception):
    def __str__(self) -> str:
        return "worded: " + ", ".join(map(str, self.args))


class Slotted(Exception):
    __slots__ = ("extra",)


class Parsing(SyntaxError):
    def __init__(self, text: str, line: int) -> None:
        super().__init__(text, ("file.txt", line, 1, text))
        self.where = line


class Keyed(KeyError):
    pass


def local() -> Any:
    class Local(ValueError):
        def __init__(self, x: int) -> None:
            super().__init__(x, "local")
            self.x = x

    return Local


Local = local()


def throw(error: BaseException) -> None:
    raise error


def noted() -> None:
    error = ValueError("one")
    if hasattr(error, "add_note"):
        error.add_note("two")
    else:
        error.__notes__ = ["two"]  # type: ignore[attr-defined]
    error.extra = [1]  # type: ignore[attr-defined]
    raise error


def from_another() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        raise Refused(1, "no key") from error


def while_handling() -> None:
    try:
        int("x")
    except ValueError:
        raise TooLarge(3, 2)  # noqa: B904


def raised_in_thread() -> None:
    async def fail() -> None:
        raise NetError(503, "loop")

    asyncio.run(fail())


def exiting() -> None:
    raise SystemExit(3)


CASES: list[Any] = [
    lambda: json.loads('{"a": bad'),
    lambda: xml.fromstring("<a><b></a>"),
    (throw, asyncio.IncompleteReadError(b"ab", 5)),
    lambda: throw(NetError(404, "https://example.org/x")),
    lambda: throw(ApiError("404 Client Error: Not Found", response=None)),
    lambda: throw(ApiError("x", response={"a": [1]})),
    lambda: throw(Refused(7, "quota")),
    lambda: throw(TooLarge(5, 3)),
    lambda: throw(KeywordOnly(detail="so")),
    lambda: throw(Worded(1, "b")),
    lambda: throw(Slotted("s")),
    lambda: throw(Parsing("bad line", 7)),
    lambda: throw(Keyed("k")),
    lambda: throw(Local(4)),
    (throw, Local(5)),
    (throw, TooLarge(8, 1)),
    noted,
    from_another,
    while_handling,
    raised_in_thread,
    lambda: open("/no/such/file"),  # noqa: SIM115
    lambda: "é".encode("ascii"),
    lambda: b"\xff".decode(),
    lambda: subprocess.run(["false"], check=True),
    lambda: 1 / 0,
    lambda: [][1],
    lambda: throw(LookupError("value")),
    lambda: throw(Exception(Exception("inner"), {"a": 1})),
]
