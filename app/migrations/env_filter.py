"""Which tables are ours to compare."""

from __future__ import annotations

from typing import Any

FOREIGN_PREFIXES = ("procrastinate_",)


def include(obj: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Leave Procrastinate's own tables and their parts alone."""
    table = name if kind == "table" else getattr(getattr(obj, "table", None), "name", None)
    return not (table or "").startswith(FOREIGN_PREFIXES)
