"""The message transformer: every clickable link becomes a gateway link, and nothing else changes.

Pure: bytes in, bytes out; no I/O. See ``docs/what-is-rewritten.md`` for every case.
"""

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
