"""Packs what a call needs: its function's code, and its arguments."""

from __future__ import annotations

import threading
from typing import Any

from prefect.tasks import Task

from clustrix_prefect.dispatch.call import Package
from clustrix_prefect.dispatch.placement import Place
from clustrix_prefect.engine import CallRequest
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.packaging.arguments import pack_arguments
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from clustrix_prefect.sessions.remote_files import blobs_of


class Packer:
    """Packs the calls of a flow run; a function's code once for all of its calls.

    Args:
        place: Where the calls go.
        data_limit: How many bytes of data files travel with the user's modules.
    """

    def __init__(self, place: Place, data_limit: int) -> None:
        self._place = place
        self._data_limit = data_limit
        self._bundles: dict[tuple[int, tuple[int, int]], FunctionBundles] = {}
        self._lock = threading.Lock()

    def pack(self, task: Task[Any, Any], request: CallRequest) -> Package:
        """Pack a call.

        Raises:
            NotPortable: The function or its arguments cannot travel.
        """
        place = self._place
        version = place.python_version
        while True:
            bundles = self._bundles_of(task, version)
            arguments = pack_arguments(
                request.args,
                request.kwargs,
                version,
                task.name,
                place.store,
                # Where each pod has a store of its own, what one has is brought to the others.
                carry=None if place.store else blobs_of,
                home=bundles.home.module,
            )
            function = bundles.for_arguments(arguments.met)
            code = Code.of(task.name, function)
            python = place.interpreter_for(code)
            if python.version == version:
                return Package(function, arguments, code, python)
            version = python.version  # a managed environment has one of its own

    def _bundles_of(self, task: Task[Any, Any], version: tuple[int, int]) -> FunctionBundles:
        with self._lock:
            bundles = self._bundles.get((id(task.fn), version))
            if bundles is None:
                bundles = FunctionBundles(task.fn, version, task.name, self._data_limit)
                self._bundles[id(task.fn), version] = bundles
        return bundles
