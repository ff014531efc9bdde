"""What an account must be allowed to do in a namespace, and how a Role says so."""

from __future__ import annotations

from typing import NamedTuple

API_GROUPS = {"jobs": "batch"}


class Permission(NamedTuple):
    """Something that a Role allows."""

    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def rule(self) -> str:
        """The line of a Role that allows it."""
        group = API_GROUPS.get(self.resource, "")
        return f'{{apiGroups: ["{group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]}}'


# What calls need. Exec is opened with GET, which is what authorisation calls `get`; servers
# from 1.35 on ask for `create`.
NEEDED = (
    Permission("create", "jobs"),
    Permission("list", "jobs"),
    Permission("delete", "jobs"),
    Permission("list", "pods"),
    Permission("watch", "pods"),
    Permission("get", "pods/exec"),
    Permission("create", "pods/exec"),
    Permission("list", "events"),
)
