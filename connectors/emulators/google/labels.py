"""Labels of a mailbox.

https://developers.google.com/workspace/gmail/api/guides/labels ("Types of labels": which system labels a
client may apply) and https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.labels
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.emulators.google.errors import ApiError, invalid, not_found

SYSTEM_LABELS = (
    "CHAT",
    "SENT",
    "INBOX",
    "IMPORTANT",
    "TRASH",
    "DRAFT",
    "SPAM",
    "CATEGORY_FORUMS",
    "CATEGORY_UPDATES",
    "CATEGORY_PERSONAL",
    "CATEGORY_PROMOTIONS",
    "CATEGORY_SOCIAL",
    "STARRED",
    "UNREAD",
)
NOT_APPLICABLE = frozenset({"SENT", "DRAFT", "CHAT"})
"""System labels that only Gmail itself applies and removes."""

_SETTABLE = ("name", "messageListVisibility", "labelListVisibility", "color")
_CHOICES = {
    "messageListVisibility": ("show", "hide"),
    "labelListVisibility": ("labelShow", "labelShowIfUnread", "labelHide"),
}


@dataclass(slots=True)
class Label:
    """One label. ``shown`` holds the visibility fields and the colour as the API names them."""

    id: str
    name: str
    system: bool
    shown: dict[str, Any]

    def resource(self) -> dict[str, Any]:
        """The label as ``labels.list`` shows it (no counts)."""
        return {
            "id": self.id,
            "name": self.name,
            **self.shown,
            "type": "system" if self.system else "user",
        }


class Labels:
    """The labels of one mailbox, by id."""

    def __init__(self) -> None:
        self._labels = {name: Label(name, name, True, {}) for name in SYSTEM_LABELS}
        self._next = 1
        self.revision = 0
        """Goes up with every change of a label itself."""

    def __contains__(self, label_id: object) -> bool:
        return label_id in self._labels

    def all(self) -> list[Label]:
        """System labels first, then the user's in the order they were made."""
        return list(self._labels.values())

    def get(self, label_id: str) -> Label:
        """One label.

        Raises:
            ApiError: 404.
        """
        if label_id not in self._labels:
            raise not_found()
        return self._labels[label_id]

    def name(self, label_id: str) -> str:
        """The label's name, or the id where it is gone."""
        label = self._labels.get(label_id)
        return label.name if label else label_id

    def create(self, fields: Mapping[str, Any]) -> Label:
        """Make a user label.

        Raises:
            ApiError: 400 for a bad name or visibility, 409 where the name is taken.
        """
        _check(fields)
        name = str(fields.get("name") or "").strip()
        self._check_name(name, None)
        shown = {key: fields[key] for key in _SETTABLE[1:] if key in fields}
        label = Label(f"Label_{self._next}", name, False, shown)
        self._next += 1
        self.revision += 1
        self._labels[label.id] = label
        return label

    def change(self, label_id: str, fields: Mapping[str, Any], *, replace: bool) -> Label:
        """``labels.patch``, or with ``replace`` ``labels.update``.

        Raises:
            ApiError: 404, 400 for a system label, 409 where the name is taken.
        """
        label = self.get(label_id)
        _check(fields)
        if label.system:
            raise invalid("Invalid update request")
        self.revision += 1
        if replace or "name" in fields:
            name = str(fields.get("name") or "").strip()
            self._check_name(name, label)
            label.name = name
        if replace:
            label.shown.clear()
        label.shown.update({key: fields[key] for key in _SETTABLE[1:] if key in fields})
        return label

    def delete(self, label_id: str) -> None:
        """Remove a user label.

        Raises:
            ApiError: 404, or 400 for a system label.
        """
        if self.get(label_id).system:
            raise invalid("Invalid delete request")
        self.revision += 1
        del self._labels[label_id]

    def check_applicable(self, label_ids: Iterable[str]) -> None:
        """Refuse labels that a client may not apply or remove, and unknown ones.

        Raises:
            ApiError: 400 ``Invalid label: SENT`` or ``labelId not found``.
        """
        for label_id in label_ids:
            if label_id in NOT_APPLICABLE:
                raise invalid(f"Invalid label: {label_id}")
            if label_id not in self._labels:
                raise invalid("labelId not found")

    def order(self, label_ids: Iterable[str]) -> list[str]:
        """Label ids in a stable order: as :meth:`all`, gone ones left out."""
        wanted = set(label_ids)
        return [label_id for label_id in self._labels if label_id in wanted]

    def _check_name(self, name: str, own: Label | None) -> None:
        reserved = {system.casefold() for system in SYSTEM_LABELS}
        if not name or len(name) > 225 or name.casefold() in reserved:
            raise invalid("Invalid label name")
        for label in self._labels.values():
            if label is not own and label.name.casefold() == name.casefold():
                raise ApiError(409, "Label name exists or conflicts", "aborted", status="ABORTED")

    def save(self) -> dict[str, Any]:
        """Plain data for JSON."""
        users = [label for label in self._labels.values() if not label.system]
        return {"next": self._next, "labels": [[u.id, u.name, u.shown] for u in users]}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Labels:
        """The reverse of :meth:`save`."""
        labels = cls()
        labels._next = data["next"]
        for label_id, name, shown in data["labels"]:
            labels._labels[label_id] = Label(label_id, name, False, dict(shown))
        return labels


def _check(fields: Mapping[str, Any]) -> None:
    for name, choices in _CHOICES.items():
        if name in fields and fields[name] not in choices:
            raise invalid(f"Invalid value at 'label.{name}'")
