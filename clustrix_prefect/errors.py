"""Every exception this package raises, with what happened and what to do.

Families, so that flows can tell them apart:

* `ConfigurationError`: something is wrong before anything was submitted.
* `ConnectionFailed`: the cluster cannot be reached, or refuses us.
* `InfrastructureError`: a call was submitted and the cluster, not the task, failed it.
* `PricingError`: a provider gave no prices; see `clustrix_prefect.pricing.errors`.

An exception that the task itself raised is none of these: it arrives as what it was
(see `clustrix_prefect.packaging.results`), or as `RemoteTaskError` when its class cannot
be rebuilt here.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import ClassVar, TypeVar

# Where the documentation is published; `[project.urls]` has the same.
DOCUMENTATION = "https://clustrix-prefect.readthedocs.io/en/latest/"


class ClustrixError(Exception):
    """Root of this package's exceptions.

    As text it is its message, and on a line of its own a link to what the documentation says of
    this kind of failure.

    Args:
        what: One sentence: what happened.
        remedy: One sentence: what to do about it.

    Attributes:
        of_one_call: Whether each call that it befalls has a story of its own; what befalls all
            calls of a batch alike is told once.
    """

    of_one_call: ClassVar[bool] = False

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\nSee {self.link}"

    @property
    def message(self) -> str:
        """What happened and what to do, for texts that go on after it."""
        return f"{self.what} {self.remedy}".strip()

    @property
    def link(self) -> str:
        """The section of the documentation on this kind of failure."""
        ours = __name__.partition(".")[0]
        named = next(one for one in type(self).__mro__ if one.__module__.startswith(f"{ours}."))
        return f"{DOCUMENTATION}troubleshooting/#{named.__name__.lower()}"


def message_of(error: BaseException) -> str:
    """Return what an exception says without a link, for texts that go on after it."""
    return error.message if isinstance(error, ClustrixError) else str(error)


E = TypeVar("E", bound=BaseException)


def own_copy(error: E) -> E:
    """Return an exception for one call to raise, of one that befell several.

    The traceback of an object that many calls raise grows with each of them. An exception that is
    not of this package is returned as it is: its class may not take its `args`.
    """
    if not isinstance(error, ClustrixError):
        return error
    made = copy(error)
    made.__cause__, made.__suppress_context__ = error.__cause__, error.__suppress_context__
    return made


# --- before anything is submitted ---------------------------------------------------------


class ConfigurationError(ClustrixError):
    """A block, a resource or an argument is wrong."""


class InvalidResources(ConfigurationError, ValueError):
    """A field of `resources(...)` has a value that no cluster could use."""


class TaskNotSupported(ConfigurationError, TypeError):
    """A task of this kind cannot run far away (a generator task, for instance)."""


class NotPortable(ConfigurationError):
    """A function, an argument or a result cannot travel."""


class PythonVersionMismatch(NotPortable):
    """The far side has no Python that can run this call."""


class EnvironmentMismatch(NotPortable):
    """The interpreter on the cluster lacks what the code needs.

    Attributes:
        lacks: Each thing that stands in the way: a module that is missing, a package in another
            version, a line that does not compile there.
        requirements: The requirement lines that would bring what is missing.
    """

    def __init__(
        self,
        what: str,
        remedy: str = "",
        *,
        lacks: Sequence[str] = (),
        requirements: Sequence[str] = (),
    ) -> None:
        super().__init__(what, remedy)
        self.lacks = tuple(lacks)
        self.requirements = tuple(requirements)


class EnvironmentNotBuilt(ConfigurationError):
    """The managed environment of a cluster could not be built."""


# --- reaching the cluster -----------------------------------------------------------------


class ConnectionFailed(ClustrixError, ConnectionError):
    """The cluster cannot be reached."""


class HostKeyRefused(ConnectionFailed):
    """The host's key is unknown or has changed."""


class AuthenticationFailed(ConnectionFailed):
    """The host refused every way to log in.

    Attributes:
        is_counted: Whether a password or a one-time code was refused: hosts lock accounts after
            some of these.
    """

    def __init__(self, what: str, remedy: str = "", *, is_counted: bool = False) -> None:
        super().__init__(what, remedy)
        self.is_counted = is_counted


class LoginNeeded(AuthenticationFailed):
    """The host lets nobody in without a person: a one-time code, a push, a ticket that ended."""


class KubernetesForbidden(ConnectionFailed):
    """The account may not do this in the cluster; the message names the verb and resource."""


class LoginInterrupted(ConnectionFailed):
    """The login shell ended, or printed something else, before our program started.

    Attributes:
        status: The exit status of what ended, or None if it may be the connection that broke.
    """

    def __init__(self, what: str, remedy: str = "", *, status: int | None = None) -> None:
        super().__init__(what, remedy)
        self.status = status


class ConnectionLost(ConnectionFailed):
    """An open connection broke and could not be re-opened."""


class AgentError(ClustrixError):
    """The far side could not do what it was asked (a full disk, a read-only home).

    Attributes:
        type: The far side's name for it: "DiskFull", "WorkDirNotWritable", or an exception's.
    """

    def __init__(self, what: str, remedy: str = "", *, type: str = "") -> None:
        super().__init__(what, remedy)
        self.type = type


# --- a call that was submitted and did not come back ---------------------------------------


class InfrastructureError(ClustrixError):
    """The cluster failed a call; the task's own code is not to blame.

    Attributes:
        job_id: The scheduler's id of the job, or None where there is no scheduler.
        node: The host that ran it, where known.
        exit_code: The worker's exit status, or minus the signal that ended it.
        stderr_tail: The last lines that the job wrote to its standard error.
        requeue: Whether the same call may be submitted again without asking the task's
            `retries`.
    """

    requeue: ClassVar[bool] = False
    of_one_call: ClassVar[bool] = True

    def __init__(
        self,
        what: str,
        remedy: str = "",
        *,
        job_id: str | None = None,
        node: str | None = None,
        exit_code: int | None = None,
        stderr_tail: str = "",
    ) -> None:
        super().__init__(what, remedy)
        self.job_id = job_id
        self.node = node
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail

    @property
    def message(self) -> str:
        """What happened, what to do, and to which job where."""
        facts = [
            f"job {self.job_id}" if self.job_id else "",
            f"on {self.node}" if self.node else "",
            f"exit code {self.exit_code}" if self.exit_code is not None else "",
        ]
        where = ", ".join(fact for fact in facts if fact)
        return f"{super().message} ({where})" if where else super().message


class TimeLimitExceeded(InfrastructureError):
    """The job ran into its time limit."""


class OutOfMemory(InfrastructureError):
    """The job used more memory than it asked for."""


class OutOfDisk(InfrastructureError):
    """There was no room for the result: a full disk, or a quota.

    The results of other calls make room when they have arrived: the call may do with another try.
    """

    requeue = True


class ContentLost(InfrastructureError):
    """What the call needs was deleted from the cluster's work directory before it began."""

    requeue = True


class JobCancelled(InfrastructureError):
    """Somebody else cancelled the job."""


class NodeFailure(InfrastructureError):
    """The node died under the job."""

    requeue = True


class Preempted(InfrastructureError):
    """The scheduler took the job's resources away."""

    requeue = True


class JobLost(InfrastructureError):
    """The scheduler no longer knows the job and there is no result."""

    requeue = True


class WorkerFailed(InfrastructureError):
    """The job ended without a result: killed by a signal, or a crash of the interpreter."""


class WorkerNotStarted(InfrastructureError):
    """The job ran but the worker in it did not start (no such Python, a missing module)."""

    of_one_call = False


class SubmissionRefused(InfrastructureError):
    """The scheduler will not take the job, now or later."""

    of_one_call = False


class QuotaExceeded(SubmissionRefused):
    """A quota of the namespace leaves no room."""


class QueueTimeout(InfrastructureError):
    """The call waited in the queue for longer than `queue_timeout`."""


class ImagePullFailed(InfrastructureError):
    """The node cannot get the image that the pod is to run."""

    of_one_call = False


class Unschedulable(InfrastructureError):
    """No node took the pod for longer than is waited for."""


class PodEvicted(InfrastructureError):
    """The node, or whoever drains it, put the pod out."""

    requeue = True


class PodDeleted(JobCancelled):
    """Somebody else deleted the pod, or its job."""


class TamperedResult(InfrastructureError):
    """A result's signature does not fit, so it was not opened."""


class CallNotPortable(InfrastructureError):
    """The function or its arguments arrived, but cannot be opened on the far side."""

    of_one_call = False


class NodeMismatch(CallNotPortable):
    """The node that was to run the call lacks what the login node has."""


class ResultNotPortable(InfrastructureError):
    """The task ran, but what it returned cannot travel back."""


class RemoteTaskError(Exception):
    """The task raised an exception whose class cannot be rebuilt here.

    Args:
        type_name: The qualified name of the exception's class.
        text: What `str()` of it gave far away.
        traceback: The far side's traceback, as text.
    """

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class RemoteTraceback(Exception):
    """The far side's traceback: the cause of an exception that a task raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


# --- credentials ---------------------------------------------------------------------------


class CredentialError(ConfigurationError):
    """A reference to a secret cannot be resolved.

    The message names the reference and the store, never the secret.

    Attributes:
        reference: The reference as it was written, such as `op://vault/item/field`.
        store: Where it was looked for, such as `1Password Connect at http://...`.
    """

    def __init__(
        self, what: str, remedy: str = "", *, reference: str = "", store: str = ""
    ) -> None:
        super().__init__(what, remedy)
        self.reference = reference
        self.store = store


class CredentialNotFound(CredentialError):
    """The store has no such vault, item or field, or more than one."""


class CredentialForbidden(CredentialError):
    """The store refused the token, or the token may not see the item."""


class CredentialStoreUnavailable(CredentialError):
    """The store cannot be reached, is not set up, or answered with nonsense."""
