"""The states of a message, and why a message is left alone.

::

    SEEN ── transform ──> WRITING ── replace ──> PROTECTED ── restore ──> RESTORING ──> RESTORED
      │                      │
      ├──> SKIPPED           ├──> FAILED     (after several tries; the original is untouched)
      ├──> DRY_RUN           └──> GONE       (the user deleted it)
      └──> GONE

Every state but SEEN, WRITING and RESTORING is final: the mailbox's cursor may pass it.
"""

from __future__ import annotations

from enum import StrEnum

from connectors.base.types import Trait


class MessageState(StrEnum):
    """How far a message has come."""

    SEEN = "seen"
    WRITING = "writing"
    PROTECTED = "protected"
    SKIPPED = "skipped"
    DRY_RUN = "dry_run"
    FAILED = "failed"
    GONE = "gone"
    RESTORING = "restoring"
    RESTORED = "restored"


UNFINISHED = frozenset({MessageState.SEEN, MessageState.WRITING, MessageState.RESTORING})

MAX_ATTEMPTS = 5
"""Tries of one message before it is left as it is and reported, so that it cannot hold back its mailbox."""

MAX_TRANSIENT_ATTEMPTS = 30
"""The same for time-outs and server errors of one message while its mailbox answers."""

SKIP_BY_TRAIT: dict[Trait, str] = {
    Trait.DRAFT: "draft",
    Trait.SENT: "sent",
    Trait.FROM_OWNER: "from_owner",
    Trait.CHAT: "chat",
    Trait.SPAM: "spam",
    Trait.TRASH: "trash",
    Trait.SIGNED: "signed",
    Trait.ENCRYPTED: "encrypted",
    Trait.RIGHTS_MANAGED: "rights_managed",
    Trait.CONFIDENTIAL_MODE: "confidential_mode",
    Trait.MEETING: "meeting",
    Trait.REPORT: "report",
    Trait.APPROVAL: "approval",
    Trait.UNKNOWN_CLASS: "unknown_class",
}
"""Traits that leave a message untouched, with the reason that is shown; the first that applies is named."""


def skip_reason(traits: frozenset[Trait]) -> str | None:
    """Why a message with these traits is not touched, or None."""
    return next((reason for trait, reason in SKIP_BY_TRAIT.items() if trait in traits), None)


REPORTED = frozenset(
    {
        *("signed", "encrypted", "rights_managed", "confidential_mode", "meeting", "report", "approval"),
        "unknown_class",
    }
)
"""Reasons for which the links of a message are reported though it is left alone: it may only look so."""

RECONSIDERED = frozenset({"spam", "trash", "draft"})
"""Reasons that end when the message is moved: the provider reports it again, and it is looked at again."""


class LeftOut(StrEnum):
    """Why a mailbox is not protected though its domain is."""

    SUSPENDED = "suspended"
    GONE = "gone"
    NOT_CHOSEN = "not_chosen"
    OUT_OF_SCOPE = "out_of_scope"
    UNAVAILABLE = "unavailable"


TRIED_AGAIN = frozenset({LeftOut.OUT_OF_SCOPE, LeftOut.UNAVAILABLE})
"""Reasons that only trying again can end: the directory does not know of them."""
