"""What is expected of the files of clusters, as it is written down.

- path: /scratch/project/data
  kind: directory
  permissions: "0750"
  pattern: "*.csv"
  min_files: 100
  newest_within: 24h
- cluster: slurm-cluster/ndoli
  path: "~"
  min_free: 10GB
  writable: true
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator

from clustrix_prefect.applying.files import Mistake, WrongFiles, read_documents
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.filesystem.naming import whole_name
from clustrix_prefect.validation.ages import seconds_of
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.clusters import THIS_MACHINE


class Expectation(BaseModel):
    """What is expected of one path."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="Absolute, or beginning with ~ for the home directory there.")
    cluster: str | None = Field(
        default=None, description="Only there: its type and name, or its name. Default: on each."
    )
    exists: bool = Field(default=True, description="False: nothing may be there.")
    kind: Literal["file", "directory", "link"] | None = None
    permissions: str | None = Field(default=None, description='Octal, such as "0750".')
    min_size: ByteSize | None = Field(default=None, description="Of a file, or all below.")
    max_size: ByteSize | None = Field(default=None, description="The same.")
    pattern: str = Field(default="*", description="Which files are counted.")
    min_files: int | None = None
    max_files: int | None = None
    newest_within: str | None = Field(default=None, description="Age of the newest file: 24h, 7d.")
    min_free: ByteSize | None = Field(default=None, description="Left on its file system.")
    min_quota: ByteSize | None = Field(
        default=None, description="Left of the account's quota on its file system."
    )
    writable: bool = Field(default=False, description="Write, read and delete a file there.")
    max_latency_ms: float | None = Field(default=None, description="For one look at it.")

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith(("/", "~/")) and value != "~":
            raise ValueError("is not absolute; begin it with / or, in your own home, with ~/")
        return value

    @field_validator("permissions")
    @classmethod
    def _octal(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                int(value, 8)
            except ValueError:
                raise ValueError('is not octal; write for example "0750"') from None
        return value

    @field_validator("newest_within")
    @classmethod
    def _age(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_of(value)
        return value


def read_expectations(path: Path) -> list[Expectation]:
    """Return the expectations in a YAML file.

    Raises:
        ConfigurationError: There is no such file.
        WrongFiles: It is wrong; with the lines.
    """
    found: list[Expectation] = []
    mistakes: list[Mistake] = []
    for document in read_documents([path]):
        if not isinstance(document.data, list):
            mistakes.append(document.mistake("Write a list of expectations, each with a `path`."))
            continue
        for number, data in enumerate(document.data):
            try:
                found.append(Expectation.model_validate(data))
            except ValidationError as error:
                mistakes += [
                    document.mistake(
                        f"{'.'.join(map(str, one['loc']))}: {one['msg']}", number, *one["loc"]
                    )
                    for one in error.errors(include_url=False)
                ]
    if mistakes:
        raise WrongFiles(mistakes)
    return found


def expectations_from(given: Any) -> list[Expectation]:
    """Expectations as a flow's parameter gives them: a file's path, or they themselves.

    Raises:
        ConfigurationError: They are wrong.
    """
    if given is None:
        return []
    if isinstance(given, (str, Path)):
        return read_expectations(Path(given))
    try:
        return [Expectation.model_validate(one) for one in given]
    except ValidationError as error:
        raise ConfigurationError(
            f"The expectations are wrong: {error}.", "Each has a `path`."
        ) from error


def placed(
    expectations: Sequence[Expectation], clusters: Sequence[str]
) -> tuple[list[Expectation], list[Check]]:
    """Sort out which expectations belong to the clusters that are looked at.

    Args:
        expectations: All of them.
        clusters: The names of the clusters that are looked at.

    Returns:
        Those that do, naming their cluster as `clusters` does; and what is to be said of the
        others: one that names a cluster that there is not would otherwise always hold.
    """
    ours: list[Expectation] = []
    others: list[Check] = []
    for one in expectations:
        try:
            name = _named(one.cluster, clusters)
        except ConfigurationError as error:
            others.append(Check.failed(one.path, error, str(one.cluster)))
            continue
        if name is None or name in clusters:
            ours.append(one.model_copy(update={"cluster": name}))
        else:
            others.append(Check(one.path, left_out="This cluster was not asked for.", cluster=name))
    return ours, others


def _named(cluster: str | None, clusters: Sequence[str]) -> str | None:
    if cluster is None or cluster == THIS_MACHINE or cluster in clusters:
        return cluster
    return whole_name(cluster)
