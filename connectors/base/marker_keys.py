"""The secrets with which copies of ours are marked, so that nobody else can make a mail that passes for one."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MarkerKeys:
    """The key that new markers get, and older ones that are still believed.

    Attributes:
        current: Secret of new markers, at least 16 bytes.
        older: Secrets of markers made before a rotation; kept as long as copies made with them.

    Raises:
        ValueError: A key is too short.
    """

    current: bytes = field(repr=False)
    older: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if any(len(key) < 16 for key in self.all):
            raise ValueError("A marker key must have at least 16 bytes.")

    @property
    def all(self) -> tuple[bytes, ...]:
        """All that are believed, the present one first."""
        return (self.current, *self.older)
