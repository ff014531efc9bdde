"""Automations from files, with names where Prefect wants ids.

    name: Validations that hang are cancelled
    trigger: ...                     # as Prefect writes them
    actions:
      - type: send-notification
        block: slack-webhook/team    # instead of block_document_id
      - type: run-deployment
        deployment: validate-all/daily
      - type: pause-automation
        automation: Nightly
      - type: pause-work-pool
        work_pool: validation
      - type: pause-work-queue
        work_queue: validation/default

Several documents of a file are separated by `---`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.actions import Action, ActionTypes
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import to_jsonable_python

from clustrix_prefect.applying.files import Document, Mistake, WrongFiles, read_documents
from clustrix_prefect.display.nearest import what_was_meant
from clustrix_prefect.errors import ConfigurationError

_PAGE = 200
# The server takes it with a new automation, and never tells it again.
_ONLY_AT_FIRST = {"owner_resource"}


@dataclass
class PlannedAutomation:
    """An automation as a file describes it, beside the one on the server.

    Attributes:
        wanted: The automation.
        existing: The one of this name on the server, if there is one.
        differences: What would change, in words; empty if nothing would.
    """

    wanted: AutomationCore
    existing: Automation | None = None
    differences: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called, here and on the server."""
        return self.wanted.name

    @property
    def is_new(self) -> bool:
        """Whether there is none of this name on the server."""
        return self.existing is None


def plan_automations(paths: Sequence[Path]) -> list[PlannedAutomation]:
    """Read files, and compare them with what is on the server; nothing is changed.

    Raises:
        WrongFiles: Something is wrong with the files, or names what is not there.
    """
    planned: list[PlannedAutomation] = []
    mistakes: list[Mistake] = []
    documents = read_documents(paths)
    with get_client(sync_client=True) as client:
        existing = _existing(client)
        seen: set[str] = set()
        for document in documents:
            try:
                one = _plan(document, client, existing)
                if one.name in seen:
                    told = f"There is another automation {one.name!r} in the files."
                    raise WrongFiles([document.mistake(told, "name")])
            except WrongFiles as error:
                mistakes += error.mistakes
            else:
                seen.add(one.name)
                planned.append(one)
    if mistakes:
        raise WrongFiles(mistakes)
    return planned


def apply_automations(planned: Sequence[PlannedAutomation]) -> list[str]:
    """Create what is new, and update what differs.

    Returns:
        The names of those that were created or updated.

    Raises:
        ConfigurationError: The server has something else now than the file says.
    """
    done = []
    with get_client(sync_client=True) as client:
        for one in planned:
            if one.existing is None:
                saved_id = client.create_automation(one.wanted)
            elif one.differences:
                saved_id = one.existing.id
                _replace(client, saved_id, one.wanted)
            else:
                continue
            saved = PlannedAutomation(one.wanted, client.read_automation(saved_id))
            if kept := list(_differences(saved)):
                raise ConfigurationError(
                    f"The server took {one.name!r}, and it is not as in the file there: "
                    f"{'; '.join(kept)}.",
                    "Compare the versions of Prefect here and on the server.",
                )
            done.append(one.name)
    return done


def _replace(client: SyncPrefectClient, automation_id: UUID, wanted: AutomationCore) -> None:
    """Make an automation on the server what the file says, and nothing besides.

    Prefect's own `update_automation` sends only what is written out, and the server keeps the
    rest: what was taken out of the file would stay. The owner is set when it is created.
    """
    whole = wanted.model_dump(mode="json", exclude=_ONLY_AT_FIRST)
    path = {"id": automation_id}
    client.request("PUT", "/automations/{id}", path_params=path, json=whole).raise_for_status()


def _existing(client: SyncPrefectClient) -> dict[str, list[Automation]]:
    found: dict[str, list[Automation]] = {}
    offset = 0
    while True:
        page = client.read_automations(sort=AutomationSort.NAME_ASC, limit=_PAGE, offset=offset)
        for automation in page:
            found.setdefault(automation.name, []).append(automation)
        if len(page) < _PAGE:
            return found
        offset += _PAGE


def _plan(
    document: Document, client: SyncPrefectClient, existing: Mapping[str, list[Automation]]
) -> PlannedAutomation:
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise WrongFiles([document.mistake("An automation has a `name`.")])
    mistakes = [
        document.mistake(f"An automation has no {key!r}.", key)
        for key in map(str, data)
        if key not in AutomationCore.model_fields
    ]
    wanted = dict(data)
    for key in ("actions", "actions_on_trigger", "actions_on_resolve"):
        listed = data.get(key)
        if isinstance(listed, list):
            wanted[key] = [
                _resolved(action, (key, number), document, client, existing, mistakes)
                for number, action in enumerate(listed)
            ]
    same = existing.get(data["name"], [])
    if len(same) > 1:
        told = f"The server has {len(same)} automations of this name; delete all but one."
        mistakes.append(document.mistake(told, "name"))
    if mistakes:
        raise WrongFiles(mistakes)
    try:
        core = AutomationCore.model_validate(wanted)
    except ValidationError as error:
        raise WrongFiles(_validation_mistakes(document, error)) from None
    # Prefect passes over what it does not know: a misspelt threshold is none.
    if unknown := list(_unknown(document, wanted, core, ())):
        raise WrongFiles(unknown)
    one = PlannedAutomation(core, same[0] if same else None)
    one.differences = list(_differences(one))
    return one


def _validation_mistakes(document: Document, error: ValidationError) -> list[Mistake]:
    """What is wrong, once for each line: of a union, pydantic tells what each member lacks."""
    found: dict[tuple[str | int, ...], Mistake] = {}
    for one in error.errors(include_input=False, include_url=False):
        known: tuple[str | int, ...] = ()
        for part in one["loc"]:  # between the names of the file are those of classes
            if (*known, part) in document.lines:
                known = (*known, part)
        where = ".".join(map(str, known)) or "this"
        found.setdefault(known, document.mistake(f"{where}: {one['msg']}", *known))
    return list(found.values())


def _unknown(
    document: Document, written: Any, understood: Any, place: tuple[str | int, ...]
) -> Iterator[Mistake]:
    """Yield what is written, and was not understood."""
    if isinstance(written, list) and isinstance(understood, list):
        for number, (one, its) in enumerate(zip(written, understood, strict=True)):
            yield from _unknown(document, one, its, (*place, number))
    if not isinstance(written, dict) or not isinstance(understood, BaseModel):
        return
    if isinstance(understood, Action) and not isinstance(understood, get_args(ActionTypes)):
        told = f"There is no action {understood.type!r}{what_was_meant(understood.type, _ACTIONS)}"
        yield document.mistake(told, *place, "type")
    elif not isinstance(understood, RootModel):
        known = type(understood).model_fields
        for key, inner in written.items():
            if key in known:
                yield from _unknown(document, inner, getattr(understood, key), (*place, key))
                continue
            named = next((name for name, (id_field, _) in _FINDERS.items() if id_field == key), key)
            what = f"{written.get('type', 'this')}" if place else "an automation"
            told = f"{what} has no field {named!r}{what_was_meant(str(named), known)}"
            yield document.mistake(told, *place, named)


_ACTIONS = [kind.model_fields["type"].default for kind in get_args(ActionTypes)]


# --- names to ids -------------------------------------------------------------------------


def _resolved(
    action: Any,
    place: tuple[str, int],
    document: Document,
    client: SyncPrefectClient,
    existing: Mapping[str, list[Automation]],
    mistakes: list[Mistake],
) -> Any:
    if not isinstance(action, dict):
        return action
    kind = action.get("type", "")
    wanted = dict(action)
    for key, (id_field, find) in _FINDERS.items():
        if id_field in action:
            told = f"Write `{key}: NAME` instead of {id_field}: ids differ from server to server."
            mistakes.append(document.mistake(told, *place, id_field))
        if key not in action:
            continue
        found = find(client, str(action[key]), existing)
        if found is None:
            told = f"The server has no {key.replace('_', ' ')} {action[key]!r}."
            mistakes.append(document.mistake(told, *place, key))
        wanted.pop(key)
        wanted[id_field] = found
        if f"{kind}".endswith(("-deployment", "-automation", "-work-pool", "-work-queue")):
            wanted.setdefault("source", "selected")
    return wanted


def _id_of(ask: Callable[[], Any]) -> UUID | None:
    """Return the id of what the server is asked for, if there is such a thing."""
    try:
        found: UUID = ask().id
    except ObjectNotFound:
        return None
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        return None
    return found


def _deployment(
    client: SyncPrefectClient, name: str, existing: Mapping[str, list[Automation]]
) -> UUID | None:
    return _id_of(lambda: client.read_deployment_by_name(name)) if "/" in name else None


def _block(
    client: SyncPrefectClient, name: str, existing: Mapping[str, list[Automation]]
) -> UUID | None:
    slug, _, title = name.partition("/")
    return _id_of(lambda: client.read_block_document_by_name(title, slug, include_secrets=False))


def _automation(
    client: SyncPrefectClient, name: str, existing: Mapping[str, list[Automation]]
) -> UUID | None:
    same = existing.get(name, [])
    return same[0].id if len(same) == 1 else None


def _work_pool(
    client: SyncPrefectClient, name: str, existing: Mapping[str, list[Automation]]
) -> UUID | None:
    return _id_of(lambda: client.read_work_pool(name))


def _work_queue(
    client: SyncPrefectClient, name: str, existing: Mapping[str, list[Automation]]
) -> UUID | None:
    pool, _, queue = name.partition("/")
    return _id_of(lambda: client.read_work_queue_by_name(queue or "default", pool))


_Finder = Callable[[SyncPrefectClient, str, Mapping[str, list[Automation]]], UUID | None]
_FINDERS: dict[str, tuple[str, _Finder]] = {
    "deployment": ("deployment_id", _deployment),
    "block": ("block_document_id", _block),
    "automation": ("automation_id", _automation),
    "work_pool": ("work_pool_id", _work_pool),
    "work_queue": ("work_queue_id", _work_queue),
}


# --- comparing ----------------------------------------------------------------------------


def _differences(one: PlannedAutomation) -> Iterator[str]:
    new = one.wanted.model_dump(mode="json")
    if one.existing is None:
        for name in one.wanted.model_fields_set - {"name"}:
            yield f"{name}: {new[name]}"
        return
    # Not compared as JSON, which lists the events of a set in any order.
    old, shown = one.existing.model_dump(), one.existing.model_dump(mode="json")
    wanted = one.wanted.model_dump()
    for name in AutomationCore.model_fields.keys() - _ONLY_AT_FIRST:
        if _comparable(old.get(name), name) != _comparable(wanted.get(name), name):
            yield f"{name}: {shown.get(name)} -> {new.get(name)}"


def _comparable(value: Any, field: str) -> Any:
    """Return a field's value as it comes back from the server, but for what that adds by itself."""
    return _plain(_without_ids(value) if field == "trigger" else value)


def _without_ids(trigger: Any) -> Any:
    """Return a trigger, and those within it, without the ids that the server gives them."""
    if not isinstance(trigger, dict):
        return trigger
    bare = {key: value for key, value in trigger.items() if key != "id"}
    if isinstance(bare.get("triggers"), list):
        bare["triggers"] = [_without_ids(inner) for inner in bare["triggers"]]
    return bare


def _plain(value: Any) -> Any:
    """Only what JSON knows, a set in one order: a date in YAML comes back as text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=str)
    return to_jsonable_python(value)
