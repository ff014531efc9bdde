"""What the Prefect server shows of a validation."""

from __future__ import annotations

import re
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import Artifact, State

from tests.contract.api import eventually

_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def page_of(state: State[Any], key: str) -> str:
    """The artifact of the run that ended in this state, as markdown."""
    wanted = {
        "flow_run_id": {"any_": [str(state.state_details.flow_run_id)]},
        "key": {"any_": [key]},
    }

    def read(client: SyncPrefectClient) -> list[Artifact]:
        answer = client.request("POST", "/artifacts/filter", json={"artifacts": wanted})
        return Artifact.model_validate_list(answer.json())

    (page,) = eventually(read, lambda found: len(found) == 1)
    return str(page.data)


def shown(markdown: str) -> str:
    """A text as it is read: what is escaped stands for itself, and so does a broken line."""
    return _ESCAPED.sub(r"\1", markdown.replace("<br>", " "))


def rows_of(page: str) -> list[dict[str, str]]:
    """The rows of the tables of a page as they are read, by the names of their columns."""
    found: list[dict[str, str]] = []
    header: list[str] = []
    for line in page.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        # What divides the cells is a bar that is not escaped.
        cells = [shown(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert not header or len(cells) == len(header), f"a cell that is none: {line}"
        if not header:
            header = cells
        elif set(line) - set("|-: "):
            found.append(dict(zip(header, cells, strict=True)))
    return found
