"""The message transformer: every clickable link becomes a gateway link, and nothing else changes.

Pure: bytes in, bytes out; no I/O. See ``docs/what-is-rewritten.md`` for every case.

What is exported here is imported when it is first used (PEP 562, https://peps.python.org/pep-0562/): the gateway needs
hosts and wrappers alone, and the parsers and picture libraries behind the transformer are a third of its memory.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.messages.bodies import inspect_body, transform_body
    from app.messages.classify import classify
    from app.messages.marker import strip_marker
    from app.messages.restore import restore, restore_body
    from app.messages.transform import inspect, transform
    from app.messages.types import (
        BodyResult,
        Finding,
        FoundLink,
        LinkAction,
        LinkKind,
        OpenedLink,
        RestoreBodyResult,
        RestoreFailure,
        RestoreResult,
        RewrittenLink,
        SkipReason,
        StyleOptions,
        TransformPlan,
        TransformResult,
        TransformWarning,
    )

__all__ = [
    "BodyResult",
    "Finding",
    "FoundLink",
    "LinkAction",
    "LinkKind",
    "OpenedLink",
    "RestoreBodyResult",
    "RestoreFailure",
    "RestoreResult",
    "RewrittenLink",
    "SkipReason",
    "StyleOptions",
    "TransformPlan",
    "TransformResult",
    "TransformWarning",
    "classify",
    "inspect",
    "inspect_body",
    "restore",
    "restore_body",
    "strip_marker",
    "transform",
    "transform_body",
]

_MODULES = {
    "BodyResult": "types",
    "Finding": "types",
    "FoundLink": "types",
    "LinkAction": "types",
    "LinkKind": "types",
    "OpenedLink": "types",
    "RestoreBodyResult": "types",
    "RestoreFailure": "types",
    "RestoreResult": "types",
    "RewrittenLink": "types",
    "SkipReason": "types",
    "StyleOptions": "types",
    "TransformPlan": "types",
    "TransformResult": "types",
    "TransformWarning": "types",
    "classify": "classify",
    "inspect": "transform",
    "inspect_body": "bodies",
    "restore": "restore",
    "restore_body": "restore",
    "strip_marker": "marker",
    "transform": "transform",
    "transform_body": "bodies",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


class _Package(ModuleType):
    """Some functions have their module's name. Importing such a module must not put it in the function's place
    (https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access)."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
