"""What `prefect.runtime` shows far away."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.runtime import deployment, flow_run
from prefect.settings import get_current_settings

logger = logging.getLogger("prefect.clustrix")

# They travel with every call, beside its arguments: enough to be recognised by.
_LONGEST = 1024


def shown_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return each value as it is if JSON can say it shortly, else the name of its type."""
    return {name: _shown(value) for name, value in parameters.items()}


def run_urls(task_run_id: UUID) -> dict[str, str | None]:
    """Return where a task run is to be seen, as `prefect.runtime.task_run` says it."""
    settings = get_current_settings()
    below = f"/runs/task-run/{task_run_id}"
    return {
        "api_url": settings.api.url and settings.api.url + below,
        "ui_url": settings.ui_url and settings.ui_url + below,
    }


def flow_run_facts() -> dict[str, Any]:
    """Return what `prefect.runtime.flow_run` and `.deployment` say in this flow run.

    What the API would have to be asked for is left out where it does not answer.
    """
    found: dict[str, Any] = {"flow_run": {}, "deployment": {}}
    for module, facts in ((flow_run, found["flow_run"]), (deployment, found["deployment"])):
        for name in module.FIELDS:
            try:
                value = getattr(module, name)
            except Exception:
                logger.debug("prefect.runtime: %s is not known", name, exc_info=True)
                continue
            facts[name] = value.isoformat() if isinstance(value, datetime) else _shown_deep(value)
    return found


def _shown_deep(value: Any) -> Any:
    if isinstance(value, dict):
        return shown_parameters(value)
    return value if isinstance(value, (str, int, float, list, type(None))) else str(value)


def _shown(value: Any) -> Any:
    if isinstance(value, (bool, int, float, type(None))):
        return value
    # Exactly these: a subclass may not want to be looked into.
    if type(value) in (str, list, tuple, dict) and len(value) <= _LONGEST:
        try:
            fits = len(json.dumps(value)) <= _LONGEST
        except Exception:  # something in it is beyond JSON, or refuses to be looked into
            fits = False
        if fits:
            return value
    return f"<{type(value).__qualname__}>"
