"""What `cluster_stat` and `cluster_du` say: the same classes in a flow and inside a task."""

from typing import Any, Callable

try:
    from dataclasses import dataclass
except ImportError:  # Python 3.6

    def dataclass(**_: Any) -> Callable[[Any], Any]:  # type: ignore[no-redef]
        """As much of a frozen dataclass as these classes need."""
        return _frozen


def _frozen(kind: Any) -> Any:
    names = tuple(kind.__annotations__)

    def values(it: Any) -> Any:
        return tuple(getattr(it, name) for name in names)

    def init(self: Any, *args: Any, **fields: Any) -> None:
        fields.update(zip(names, args))  # noqa: B905 (3.10)
        if set(fields) != set(names):
            raise TypeError("{} takes {}".format(kind.__name__, ", ".join(names)))
        self.__dict__.update(fields)

    def refuse(self: Any, name: str, *value: Any) -> None:
        raise AttributeError("cannot assign to field {!r}".format(name))

    def shown(self: Any) -> str:
        fields = ("{}={!r}".format(name, getattr(self, name)) for name in names)
        return "{}({})".format(kind.__name__, ", ".join(fields))

    kind.__init__, kind.__setattr__, kind.__delattr__ = init, refuse, refuse
    kind.__repr__ = shown
    kind.__eq__ = lambda self, other: type(other) is kind and values(self) == values(other)
    kind.__hash__ = lambda self: hash(values(self))
    return kind


@dataclass(frozen=True)
class FileStat:
    """What is known of a file or directory; of a link, what is known of where it leads.

    Attributes:
        size: In bytes.
        modified: When it was last written to, in seconds since 1970 on the cluster's clock.
        is_dir: Whether it is a directory.
        is_file: Whether it is a regular file.
        permissions: In octal: "644".
        name: Its name, without the directories above it.
    """

    size: int
    modified: float
    is_dir: bool
    is_file: bool
    permissions: str
    name: str


@dataclass(frozen=True)
class DiskUsage:
    """What a directory's regular files amount to; links are not followed and do not count.

    Attributes:
        total_bytes: Their sizes, as `ls -l` shows them, together.
        file_count: How many there are.
    """

    total_bytes: int
    file_count: int

    @property
    def total_mb(self) -> float:
        """In MiB."""
        return self.total_bytes / 2.0**20

    @property
    def total_gb(self) -> float:
        """In GiB."""
        return self.total_bytes / 2.0**30


# Pickled by a name that both sides know.
FileStat.__module__ = DiskUsage.__module__ = "clustrix_prefect"
