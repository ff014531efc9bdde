"""The form on the page of a waiting flow run in which a person gives a one-time code."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from contextvars import copy_context
from functools import partial
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.input.run_input import Keyset, keyset_from_paused_state
from prefect.states import Paused
from pydantic import Field, SecretStr

from clustrix_prefect.dispatch.placement import RunContext
from clustrix_prefect.errors import ConnectionFailed
from clustrix_prefect.sessions.login_wait import LoginWait

logger = logging.getLogger("prefect.clustrix")

_LOOK_SECONDS = 1.0


class OneTimeCode(RunInput):
    """What a person types into the form."""

    code: SecretStr = Field(
        title="One-time code",
        description="The code that holds now, or what the host takes in its place, such as push. "
        "Never a password.",
    )


class LoginForm:
    """Asks for the code on the page of a flow run, until somebody has logged in.

    The flow run is `Paused` meanwhile, which is what gives it a form; its task runs go on.

    Args:
        run: The flow run.
        wait: What it waits for.
    """

    def __init__(self, run: RunContext, wait: LoginWait) -> None:
        self._run = run
        self._wait = wait
        self._id = UUID(run.run_id)
        asking = partial(copy_context().run, self._ask)
        threading.Thread(target=asking, name="clustrix-login-form", daemon=True).start()

    def _ask(self) -> None:
        try:
            with get_client(sync_client=True) as client:
                while (code := self._answer(client)) is not None:
                    if self._logs_in(code):
                        return
        except Exception as error:  # calls wait for a login on a terminal all the same
            logger.warning("The flow run cannot ask for a code: %s", error)

    def _logs_in(self, code: str) -> bool:
        try:
            self._wait.log_in(code)
        except ConnectionFailed as error:
            self._run.log.say(logging.WARNING, error.message)
            return False
        return True

    def _answer(self, client: SyncPrefectClient) -> str | None:
        """Show the form, and return the code; None if nobody waits for it any more."""
        # Longer than calls wait: otherwise Prefect would end the flow run first.
        paused: State[None] = Paused(
            timeout_seconds=int(self._wait.seconds_left) + 3600,
            pause_key=uuid.uuid4().hex,
        )
        keys = keyset_from_paused_state(paused)
        paused.state_details.run_input_keyset = {str(name): key for name, key in keys.items()}
        client.set_flow_run_state(self._id, paused)
        form = OneTimeCode.with_initial_data(
            description=f"{self._wait.needed.what} Type the one-time code alone, never a password."
        )
        form.save(keys, flow_run_id=self._id)
        try:
            return self._typed(client, keys)
        finally:
            for key in keys.values():
                _delete(client, self._id, key)

    def _typed(self, client: SyncPrefectClient, keys: Keyset) -> str | None:
        while True:
            state = client.read_flow_run(self._id).state
            if state is not None and state.is_running():
                value = client.read_flow_run_input(self._id, keys["response"])
                _delete(client, self._id, keys["response"])
                return str(json.loads(value)["code"]).strip()
            if state is None or not state.is_paused():
                return None  # it ends
            if self._wait.is_over:
                # Unlike a new state, it does nothing to a flow run that has just ended.
                client.resume_flow_run(self._id, run_input={"code": ""})
                return None
            time.sleep(_LOOK_SECONDS)


def _delete(client: SyncPrefectClient, flow_run_id: UUID, key: str) -> None:
    try:
        client.delete_flow_run_input(flow_run_id, key)
    except Exception as error:
        logger.debug("There is no input %s: %s", key, error)
