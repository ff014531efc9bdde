"""An environment that is built on the cluster for the calls."""

from __future__ import annotations

import re
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel, ConfigDict, Field, field_validator

from clustrix_prefect.clusters.requirements import Requirements, checked
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.task_resources import Resources

AUTO = "auto"
_BARE_VERSION = re.compile(r"^\d+(\.\d+)*\Z")


class ManagedEnvironment(BaseModel):
    """A virtual environment on the cluster: built at its first use, and used ever after.

    Examples:
        ```python
        SlurmCluster(host="ndoli", managed_environment=ManagedEnvironment())
        SSHCluster(
            host="big",
            managed_environment=ManagedEnvironment(
                requirements=["numpy>=1.26", "scipy"], python=">=3.10", wheelhouse=True
            ),
        )
        ```
    """

    model_config = ConfigDict(extra="forbid")

    requirements: str | list[str] = Field(
        default=AUTO,
        title="Requirements",
        description=(
            'What to install: "auto" for what the code imports, in the versions that are '
            "installed where the flow runs; a list of requirements; or the path of a "
            "requirements file there."
        ),
        examples=[["numpy>=1.26", "scipy"], "requirements.txt"],
    )
    python: str = Field(
        default=">=3.9",
        title="Python",
        description=(
            "Which Python. Among those that fit, the flow's own minor version is preferred, "
            "then the newest."
        ),
        examples=[">=3.10", "3.11"],
    )
    wheelhouse: bool = Field(
        default=False,
        title="Wheelhouse",
        description=(
            "Collect the wheels where the flow runs and send them along: for a cluster without "
            "a package index."
        ),
    )
    use_uv: bool = Field(
        default=True,
        title="Use uv",
        description=(
            "Build with `uv` if the cluster has it, or if it is installed where the flow runs "
            "and can be sent along; else, and without it, with Python's own venv and pip."
        ),
    )
    build_in_job: bool = Field(
        default=False,
        title="Build in a job",
        description="Build in a job of the scheduler, where login nodes forbid work.",
    )
    build_resources: dict[str, Any] = Field(
        default_factory=dict,
        title="Resources of the build",
        description="What the job that builds gets: the arguments of `resources(...)`.",
        examples=[{"cores": 2, "memory": "4GB", "time": "01:00:00"}],
    )

    @field_validator("requirements")
    @classmethod
    def _lines(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, str):
            return value.strip() or AUTO
        try:
            return [checked(line) for line in value if line.strip()]
        except ConfigurationError as error:
            raise ValueError(error.message) from None

    @field_validator("python", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        text = str(value).strip()
        if _BARE_VERSION.match(text):
            text = f"=={text}.*" if text.count(".") < 2 else f"=={text}"
        try:
            SpecifierSet(text)
        except InvalidSpecifier:
            raise ValueError(
                f'{value!r} is no version of Python; write ">=3.10" or "3.11"'
            ) from None
        return text

    @field_validator("build_resources")
    @classmethod
    def _valid_resources(cls, value: dict[str, Any]) -> dict[str, Any]:
        Resources.of(**value)
        return value

    @property
    def is_automatic(self) -> bool:
        """Whether the code says what to install."""
        return self.requirements == AUTO

    @property
    def listed(self) -> Requirements:
        """What to install, where the code does not say it.

        Raises:
            ConfigurationError: The file cannot be read, or a line of it cannot travel.
        """
        if isinstance(self.requirements, str):
            return Requirements.of_file(self.requirements)
        return Requirements.of_lines(self.requirements)

    def accepts(self, version: list[int]) -> bool:
        """Return whether a Python of this version will do."""
        return SpecifierSet(self.python).contains(".".join(map(str, version)), prereleases=True)
