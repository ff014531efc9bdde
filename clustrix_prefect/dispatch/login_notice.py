"""What is told of a flow run whose calls wait until a person has logged in."""

from __future__ import annotations

import logging

from prefect.events import emit_event

from clustrix_prefect.dispatch.login_form import LoginForm
from clustrix_prefect.dispatch.placement import RunContext
from clustrix_prefect.sessions.login_wait import LoginWait

EVENT = "clustrix-prefect.login.needed"


def tell_of_login(run: RunContext, wait: LoginWait) -> None:
    """Say in the flow run's log what to type where, and send the event for automations."""
    run.log.say(logging.WARNING, wait.notice)
    name = run.cluster.saved_as or run.cluster.description
    emit_event(
        EVENT,
        resource={
            "prefect.resource.id": f"clustrix-prefect.cluster.{name}",
            "prefect.resource.name": name,
        },
        related=[
            {
                "prefect.resource.id": f"prefect.flow-run.{run.run_id}",
                "prefect.resource.role": "flow-run",
                "prefect.resource.name": run.run_name,
            }
        ],
        payload=wait.facts,
    )
    if wait.asks_in_ui and run.run_name:  # outside a flow there is no page
        LoginForm(run, wait)
