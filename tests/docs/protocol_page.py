"""The page on the protocol, written from `far_side/wire/protocol.py`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clustrix_prefect.far_side.wire import layout, protocol

_INTRODUCTION = """\
# The protocol

The client starts the agent over its connection and speaks with it on the agent's standard input
and output. What they say stands once, in `clustrix_prefect/far_side/wire/protocol.py`, as typed
functions: the client calls one to make a request, the agent has a function of the same parameters
do it, and mypy checks both ends. This page is made of that file.

Both ends are always of one version, as the client sends the agent's program. The protocol's
version is {version}.

## Frames

A frame is a header of nine bytes, JSON, and bytes that go with it (`wire/frames.py`). Bytes that
are too many for one frame follow as a stream of chunks, between which other messages pass.

| message | JSON |
|---|---|
| request | `{{"op": NAME, "id": NUMBER, ...parameters}}` |
| request without an answer | `{{"op": NAME, ...parameters}}` |
| answer | `{{"re": NUMBER, "ok": {{...}}}}` |
| failure | `{{"re": NUMBER, "error": {{"type": NAME, "message": TEXT}}}}` |
| part of a long answer | `{{"part_of": NUMBER}}`, with bytes |
| event | `{{"event": NAME, ...}}` |

Each end sends a `ping` while it has nothing else to say, and counts the other as gone after a
silence.

## What is signed

Each call has a key, made of the client's secret, the flow run and the call; it travels with the
call, in files that only the account can read. With it are signed (HMAC-SHA256, the parts joined
by newlines; `wire/signing.py`):

- a call: `clustrix-call/1`, its id, its attempt, and the digests of its code, of its captured
  values and of its arguments;
- a result: `clustrix-result/1`, the call's id, its attempt, `result`, the status, and the digest
  of the body.

A result whose signature does not fit is not opened.

## The work directory

```text
{layout}
```

## Operations

The agent does an operation *in order* (on the thread that reads, before what comes after it), *in
turn* (one after another, while reading goes on) or *aside* (on a thread of its own).
"""


def protocol_page() -> str:
    """Return the page."""
    lines = (layout.__doc__ or "").strip().splitlines()
    drawn = inspect.cleandoc("\n".join(line for line in lines if line.startswith("    ")))
    introduction = _INTRODUCTION.format(version=protocol.VERSION, layout=drawn)
    parts = [introduction.rstrip(), *_operations(), "## Events", *_events()]
    return "\n\n".join(parts) + "\n"


def _operations() -> Iterator[str]:
    source = Path(protocol.__file__).read_text()
    # Under the headings of the file.
    pieces = re.split(r"^# --- (.+?) -+$", source, flags=re.MULTILINE)
    for heading, text in zip(pieces[1::2], pieces[2::2], strict=True):
        names = re.findall(r"^@_operation\(\w+\)\ndef (\w+)", text, re.MULTILINE)
        if names:
            yield f"### {heading[0].upper()}{heading[1:]}"
            yield from map(_operation, names)


def _operation(name: str) -> str:
    operation = protocol.OPERATIONS[name]
    what, _, arguments = (inspect.getdoc(operation.function) or "").partition("\n\nArgs:\n")
    told = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(
            r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", arguments, re.DOTALL | re.MULTILINE
        )
    }
    signature = inspect.signature(operation.function)
    part = [f"#### `{name}`", f"{what} Done {operation.order}."]
    rows = [
        f"| `{parameter.name}` | `{_type(parameter.annotation)}` | {_default(parameter)} |"
        f" {told.get(parameter.name, '').replace('|', chr(92) + '|')} |"
        for parameter in signature.parameters.values()
    ]
    if rows:
        part.append("\n".join(["| parameter | type | default | |", "|---|---|---|---|", *rows]))
    answer = signature.return_annotation
    if answer is not protocol.Nothing:
        part.append(f"Answer: {_shown(answer)}")
    return "\n\n".join(part)


def _events() -> Iterator[str]:
    for name, kind in protocol.EVENTS.items():
        yield f"#### `{name}`"
        yield _shown(kind)


def _shown(kind: Any) -> str:
    """Return what a dictionary is, and its keys."""
    what = " ".join((inspect.getdoc(kind) or "").partition("\n\nAttributes:")[0].split())
    keys: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        keys.update(vars(one).get("__annotations__", {}))
    shown = ", ".join(f"`{key}`: `{_type(type_)}`" for key, type_ in keys.items() if key != "event")
    return f"{what} {shown}." if shown else what


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(typing|clustrix_prefect\.far_side\.wire\.protocol)\.", "", text)
    text = re.sub(r"Optional\[(.+)\]", r"\1 | None", text)
    return text.replace("List[", "list[").replace("Dict[", "dict[").replace("|", "\\|")


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return f"`{parameter.default}`"
