"""What all clusters have in common: where calls run there, and with what around them."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, ClassVar, Literal
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from clustrix_prefect.clusters.environment import ManagedEnvironment
from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.clusters.modules import load_if_there, load_or_exit
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.credentials.known_fields import KnownFields
from clustrix_prefect.far_side.wire.patience import Patience
from clustrix_prefect.schedulers.scheduler import Scheduler
from clustrix_prefect.task_resources import Resources

_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")
_MODULE = re.compile(r"^[A-Za-z0-9_.+/:@=~-]+\Z")
# Settings that concern one flow's calls and not the connection that flows share.
_NOT_SHARED = {"default_resources", "keep_job_files", "module_data_limit"}
# In this order they are in the UI, before all others.
_NEEDED_FIRST = (
    *("host", "port", "credentials", "kubeconfig_path", "context", "namespace", "image"),
    *("partition", "queue", "account", "project", "qos", "parallel_environment"),
    *("default_resources", "remote_work_dir", "python", "modules", "setup"),
)


class CallsRunIn(Enum):
    """Where the calls of a kind of cluster run."""

    JOBS = "jobs of a scheduler"
    WORKERS = "warm workers beside the agent"
    PODS = "pods"


class ClusterBlock(KnownFields, ABC):
    """A cluster; its kinds say how it is reached and where its calls run."""

    calls_run_in: ClassVar[CallsRunIn]

    # A wrong value is not repeated in the error: it may be a secret of the credentials.
    model_config = ConfigDict(hide_input_in_errors=True)

    # No field: it is for whoever knows the file system and scheduler better than the defaults do.
    _patience: Patience = PrivateAttr(default=Patience())

    remote_work_dir: str | None = Field(
        default=None,
        title="Work directory",
        description=(
            "Directory on the cluster for our files, shared with its nodes; ~ and $VARIABLES "
            "are expanded there. Default: ~/.clustrix-prefect. It is made with mode 0700."
        ),
        examples=["/scratch/$USER/clustrix-prefect"],
    )
    python: str | None = Field(
        default=None,
        title="Python",
        description=(
            "Python interpreter that runs the calls: a path or a name. Default: one that is found "
            "there, best of the minor version that the flow runs on."
        ),
        examples=["/opt/python/3.11/bin/python3", "python3.11"],
    )
    modules: list[str] = Field(
        default_factory=list,
        title="Modules",
        description=(
            "Environment modules to load before the worker starts (`module load`). One that "
            "cannot be loaded fails the call."
        ),
        examples=[["python/3.11", "cuda/12.4"]],
    )
    setup: list[str] = Field(
        default_factory=list,
        title="Setup",
        description=(
            "Shell lines to run before the worker starts, after the modules. One that fails "
            "stops nothing, unless it ends in `|| exit 1`."
        ),
        examples=[["source /opt/site/profile.sh"]],
    )
    conda_environment: str | None = Field(
        default=None,
        title="conda environment",
        description="Name or path of a conda environment there, whose Python runs the calls.",
        examples=["torch-2"],
    )
    virtual_environment: str | None = Field(
        default=None,
        title="Virtual environment",
        description="Path of a virtual environment there, whose Python runs the calls.",
        examples=["~/venvs/analysis"],
    )
    managed_environment: ManagedEnvironment | None = Field(
        default=None,
        title="Managed environment",
        description="Environment to be built there, with the packages that the calls need.",
    )
    package_versions: Literal["compatible", "any"] = Field(
        default="compatible",
        title="Package versions",
        description=(
            "`any` accepts packages in another major version than the flow has; `compatible` "
            "refuses them."
        ),
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        title="Environment variables",
        description=(
            "Variables to set for the calls, taken literally. They are written to job scripts: "
            "put no secrets here."
        ),
        examples=[{"OMP_NUM_THREADS": "1"}],
    )
    default_resources: dict[str, Any] = Field(
        default_factory=dict,
        title="Default resources",
        description="Resources of calls that ask for none: the arguments of `resources(...)`.",
        examples=[{"cores": 1, "memory": "2GB", "time": "00:30:00"}],
    )
    fetch_results_above: int = Field(
        default=16,
        ge=0,
        title="Large results",
        description=(
            "Results larger than this (MiB) wait on the cluster until they are opened, one "
            "after another; smaller ones are sent as soon as they are there."
        ),
    )
    module_data_limit: int = Field(
        default=16,
        ge=0,
        title="Data beside modules",
        description=(
            "How many MiB of data files may travel with your modules that they lie beside; a task "
            "that needs more is refused."
        ),
    )
    keep_job_files: Literal["never", "on_failure", "always"] = Field(
        default="on_failure",
        title="Keep job files",
        description="When job scripts and logs are left on the cluster after a call.",
    )

    reconnect_seconds: float = Field(
        default=600.0,
        ge=0,
        title="Reconnect for",
        description=(
            "For how many seconds a broken connection is tried again before the calls in flight "
            "fail. What runs on the cluster runs on meanwhile."
        ),
    )

    @field_validator(
        "remote_work_dir", "python", "conda_environment", "virtual_environment", mode="before"
    )
    @classmethod
    def _unset_if_empty(cls, value: Any) -> Any:
        return unset_if_empty(value)

    @field_validator("conda_environment")
    @classmethod
    def _conda_name(cls, value: str | None) -> str | None:
        return None if value is None else one_line(value)

    @field_validator("remote_work_dir", "virtual_environment")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and one_line(value)[0] not in "/~$":
            raise ValueError(f"{value!r} is not absolute; begin it with /, ~ or $VARIABLE")
        return value

    @field_validator("python")
    @classmethod
    def _interpreter(cls, value: str | None) -> str | None:
        if value is not None and one_line(value).startswith("-"):
            raise ValueError(f"{value!r} is not the path or name of a program")
        return value

    @field_validator("modules")
    @classmethod
    def _module_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _MODULE.match(name) or name.startswith("-"):
                raise ValueError(
                    f'{name!r} is not the name of a module; write each as "python/3.11" '
                    "and anything else in `setup`"
                )
        return value

    @field_validator("setup")
    @classmethod
    def _shell_lines(cls, value: list[str]) -> list[str]:
        if any("\0" in line for line in value):
            raise ValueError("shell lines cannot hold null characters")
        return value

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _VARIABLE.match(name):
                raise ValueError(
                    f"{name!r} is not the name of an environment variable: letters, digits "
                    "and underscores, not beginning with a digit"
                )
            if "\0" in text:
                raise ValueError(f"the value of {name} holds a null character")
        return value

    @field_validator("default_resources")
    @classmethod
    def _valid_resources(cls, value: dict[str, Any]) -> dict[str, Any]:
        Resources.of(**value)
        return value

    @model_validator(mode="after")
    def _one_environment(self) -> Self:
        given = [
            name
            for name in ("python", "conda_environment", "virtual_environment")
            if getattr(self, name) is not None
        ]
        if self.managed_environment is not None and given != ["python"]:
            given.append("managed_environment")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each name an environment; give one of them")
        if (
            self.managed_environment is not None
            and self.managed_environment.build_in_job
            and self.scheduler() is None
        ):
            raise ValueError("build_in_job needs a cluster with a scheduler")
        return self

    # --- how it is saved and shown ---------------------------------------------------------

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Prefect's; the UI shows fields in this order, so what everybody needs comes first."""
        schema = super().model_json_schema(*args, **kwargs)
        schema["properties"] = _in_order(schema["properties"])
        return schema

    def _to_block_document(self, *args: Any, **kwargs: Any) -> BlockDocument:
        document = super()._to_block_document(*args, **kwargs)
        document.data = _in_order(document.data)
        return document

    async def _save(
        self,
        name: str | None = None,
        is_anonymous: bool = False,
        overwrite: bool = False,
        client: PrefectClient | None = None,
    ) -> UUID:
        """Save the block, and credentials within it as a block of their own."""
        for within_name, block in self._to_be_saved_within(name).items():
            if overwrite or not await self._is_there(name, client):
                await block._save(name=within_name, overwrite=True, client=client)
        return await super()._save(
            name=name,
            is_anonymous=is_anonymous,
            overwrite=overwrite,
            client=client,
        )

    def _save_sync(
        self, name: str | None = None, is_anonymous: bool = False, overwrite: bool = False
    ) -> UUID:
        """Save the block, and credentials within it as a block of their own."""
        for within_name, block in self._to_be_saved_within(name).items():
            if overwrite or not run_coro_as_sync(self._is_there(name, None)):
                block._save_sync(name=within_name, overwrite=True)
        return super()._save_sync(name=name, is_anonymous=is_anonymous, overwrite=overwrite)

    def _to_be_saved_within(self, name: str | None) -> dict[str, Block]:
        """Blocks that would be copies in this one, which the UI does not show; by their names.

        Each cluster has its own: to save one again changes no other.
        """
        title = name or self._block_document_name
        found: dict[str, Block] = {}
        for field in type(self).model_fields:
            value, within = getattr(self, field), f"{self.get_block_type_slug()}-{title}-{field}"
            if title is None or not isinstance(value, Block):
                continue
            saved_as = value._block_document_name
            if saved_as is None or re.fullmatch(rf"[a-z]+-cluster-.+-{field}", saved_as):
                if saved_as != within:
                    value = value.model_copy()
                    value._block_document_id = value._block_document_name = None
                    setattr(self, field, value)
                found[within] = value
        return found

    async def _is_there(self, name: str | None, client: PrefectClient | None) -> bool:
        """Return whether there is a block of this name, which must not be overwritten."""
        title = name or self._block_document_name
        if title is None:
            return False
        try:
            if client is not None:
                await client.read_block_document_by_name(title, self.get_block_type_slug())
            else:
                async with get_client() as asked:
                    await asked.read_block_document_by_name(title, self.get_block_type_slug())
        except ObjectNotFound:
            return False
        return True

    # --- what the rest of the package asks of a cluster -----------------------------------

    @property
    @abstractmethod
    def description(self) -> str:
        """Which cluster this is, for people."""

    @abstractmethod
    def connect(self) -> Connection:
        """Open a connection to the cluster.

        Raises:
            ConnectionFailed: It cannot be reached, or refuses us.
        """

    def scheduler(self) -> Scheduler | None:
        """Return how jobs are submitted, or None where calls run beside the agent."""
        return None

    def calls_at_once(self, cores: int) -> str | None:
        """Return how many calls run at once on a host of so many cores; None: others say that."""
        return None

    @property
    def keeps_store(self) -> bool:
        """Whether our files there outlive a connection, for the next one to find."""
        return True

    @property
    def patience(self) -> Patience:
        """How long to wait for what may still come."""
        return self._patience

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has processes on the hosts where calls are sent."""
        return False

    @property
    def resources(self) -> Resources:
        """What a call gets that does not say."""
        return Resources.of(**self.default_resources)

    def check_resources(self, wanted: Resources) -> None:
        """Refuse what this kind of cluster can never give.

        Raises:
            InvalidResources: With the field and an example.
        """

    @property
    def interpreter(self) -> str | None:
        """The interpreter that the block names: by itself, or by its virtual environment."""
        if self.virtual_environment is not None:
            return f"{self.virtual_environment.rstrip('/')}/bin/python"
        return self.python

    def why_interpreter(self, version: tuple[int, int]) -> str:
        """Return why an interpreter of this minor version was chosen there, for people."""
        for field in ("python", "conda_environment", "virtual_environment"):
            if getattr(self, field) is not None:
                return f"the block's `{field}` says so"
        here = sys.version_info[:2]
        if version == here:
            return "it is of the minor version that the flow runs on"
        wanted = ".".join(map(str, here))
        return f"no Python {wanted}, which the flow runs on, was found there"

    @property
    def prologue(self) -> list[str]:
        """The shell lines after which to look for what is there, on the login node."""
        return [*load_if_there(self.modules), *self.setup]

    @property
    def worker_prologue(self) -> list[str]:
        """The shell lines that go before the worker."""
        return [*load_or_exit(self.modules), *self.setup]

    @property
    def saved_as(self) -> str | None:
        """The block's type and name, "slurm-cluster/ndoli", if it was saved or loaded."""
        name = self._block_document_name
        return f"{self.get_block_type_slug()}/{name}" if name else None

    @property
    def identity(self) -> str:
        """A text that is equal for blocks that can share a connection.

        It is a hash over secrets, too: it is for this process alone.
        """
        return f"{self.get_block_type_slug()}:{_digest(_revealed(self), _NOT_SHARED)}"

    @property
    def public_identity(self) -> str:
        """A text for others to see, by which clusters are told apart without any secret."""
        named = {**_without_secrets(self), "saved_as": self.saved_as}
        return f"{self.get_block_type_slug()}:{_digest(named, _NOT_SHARED)}"


def _in_order(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields by their names, those that everybody needs first."""
    return {**{name: fields[name] for name in _NEEDED_FIRST if name in fields}, **fields}


def _digest(settings: dict[str, Any], left_out: set[str]) -> str:
    counted = {name: value for name, value in settings.items() if name not in left_out}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def _revealed(value: Any) -> Any:
    """A field's value as plain data. Secrets count, too: another password is another login."""
    if isinstance(value, BaseModel):
        return {name: _revealed(getattr(value, name)) for name in type(value).model_fields}
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _without_secrets(value: Any) -> Any:
    """A field's value, None in place of what holds secrets, or may: shell lines, variables."""
    if isinstance(value, BaseModel):
        return {name: _without_secrets(getattr(value, name)) for name in type(value).model_fields}
    return value if isinstance(value, str | int | float | None) else None
