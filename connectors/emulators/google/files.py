"""Files of Google Drive."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Permission:
    """Who may do what with a file. ``expires`` is RFC 3339, or empty for never."""

    id: str
    type: str
    role: str
    address: str = ""
    expires: str = ""


@dataclass(slots=True)
class DriveFile:
    """A file with its content; ``created`` and ``modified`` are seconds since the epoch.

    Attributes:
        owner: Address of a user or service account.
        permissions: By id, the owner's among them.
    """

    id: str
    owner: str
    name: str
    mime_type: str
    content: bytes = field(repr=False)
    created: float
    modified: float
    trashed: bool = False
    version: int = 1
    fields: dict[str, Any] = field(default_factory=dict)
    permissions: dict[str, Permission] = field(default_factory=dict)

    def save(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "content": base64.b64encode(self.content).decode("ascii")}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> DriveFile:
        """The reverse of :meth:`save`."""
        permissions = {key: Permission(**value) for key, value in data["permissions"].items()}
        content = base64.b64decode(data["content"])
        return cls(**{**data, "content": content, "permissions": permissions})
