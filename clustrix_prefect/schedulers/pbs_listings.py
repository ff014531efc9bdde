"""The jobs that `qstat` lists as JSON, as XML or as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

Job = Mapping[str, str]


def jobs_in(listing: str) -> Iterator[tuple[str, Job]]:
    """The jobs of a listing in any of its forms: ids without their server, and attributes.

    Attributes are in lower case; resources are "resource_list.walltime" in every form.
    """
    text = listing.lstrip()
    read = _from_json if text.startswith("{") else _from_xml if text.startswith("<") else _from_text
    for job_id, attributes in read(text):
        yield (
            job_id.strip().partition(".")[0],
            {name.lower(): value for name, value in attributes.items()},
        )


def _from_json(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    # Names with control characters in them are not escaped by every version.
    for job_id, attributes in json.loads(text, strict=False).get("Jobs", {}).items():
        yield job_id, dict(_flat(attributes))


def _flat(attributes: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value)


def _from_xml(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for job in ElementTree.fromstring(text).iter("Job"):  # noqa: S314 (our scheduler's)
        told = {child.tag: (child.text or "").strip() for child in job}
        nested = {
            f"{child.tag}.{inner.tag}": (inner.text or "").strip()
            for child in job
            for inner in child
        }
        yield told.get("Job_Id", ""), {**told, **nested}


def _from_text(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for block in re.split(r"^Job Id:", text, flags=re.MULTILINE)[1:]:
        job_id, *lines = block.splitlines()
        attributes: dict[str, str] = {}
        last = ""
        for line in lines:
            name, equals, value = line.strip().partition(" = ")
            if equals and re.match(r"^[\w.]+$", name):
                attributes[name], last = value, name
            elif last:
                attributes[last] += line.strip()  # long values go on in the next line
        yield job_id, attributes
