"""The errors a connector raises. Vendor errors end at the connector and become one of these.

::

    ConnectorError
    ├── Transient                 try again later; proves nothing about the grant
    │   ├── Throttled             429/503 with a Retry-After, or a quota answer
    │   └── Unavailable           time-out, connection refused, 5xx
    ├── AccessRevoked             the tenant's grant is gone (said by the provider, not guessed)
    ├── PermissionMissing         the grant stands but lacks one permission
    ├── MailboxUnavailable        this mailbox only: suspended, unlicensed, deleted
    │   └── MailboxOutOfScope     the tenant granted access, but not to this mailbox
    ├── GroupNotFound             the directory has no such group (any more)
    ├── CursorExpired             changes since the cursor are no longer known; resync
    ├── MessageGone               the message was deleted or moved out of reach
    ├── VersionConflict           the message is not the one that was transformed any more
    ├── NotCopyable               a copy would lose a part of the message
    ├── TooLarge                  over the provider's size limit
    ├── WriteNotVerified          written, but what came back is not what was meant
    └── MisconfiguredClient       our own credential or setting is wrong; not the tenant's fault
"""

from __future__ import annotations


class ConnectorError(Exception):
    """Base of all connector errors. ``str(error)`` is fit for an administrator and holds no secret."""


class Transient(ConnectorError):
    """A failure that may pass by itself. Never proof of a revoked grant."""


class Throttled(Transient):
    """The provider asked us to slow down.

    Args:
        message: What was throttled.
        retry_after: Seconds to wait before the next call to the same mailbox.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(Transient):
    """No answer, or a server error. The write may or may not have taken effect."""


class AccessRevoked(ConnectorError):
    """The provider says that the tenant's grant does not exist (any more)."""


class PermissionMissing(ConnectorError):
    """One named permission is missing.

    Args:
        which: The permission's own name, e.g. ``Mail-Advanced.ReadWrite.All`` or a scope URL.
        message: What could not be done, and what was left untouched.
    """

    def __init__(self, which: str, message: str | None = None) -> None:
        super().__init__(message or f"The permission {which} is missing.")
        self.which = which


class MailboxUnavailable(ConnectorError):
    """This one mailbox cannot be used (suspended, no licence, deleted); others are unaffected."""


class MailboxOutOfScope(MailboxUnavailable):
    """The tenant's administrator gave us some mailboxes, and this one is not among them. Nothing is wrong with it."""


class GroupNotFound(ConnectorError):
    """The directory has no such group (any more). Who was in it is not known, so nothing follows from it."""


class CursorExpired(ConnectorError):
    """The provider no longer knows the changes since this cursor: start again from a date."""


class MessageGone(ConnectorError):
    """The message no longer exists. Not an error of anybody: the user deleted it."""


class VersionConflict(ConnectorError):
    """The message changed since it was fetched. Nothing was written."""


class NotCopyable(ConnectorError):
    """The message can only be replaced by a copy, and a copy would lose a part of it. Nothing was written."""


class TooLarge(ConnectorError):
    """The message is over the provider's limit. Nothing was written.

    Args:
        message: What was too large.
        limit: The limit in bytes.
    """

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class WriteNotVerified(ConnectorError):
    """The write took effect but reading it back showed something else; the original was kept."""


class MisconfiguredClient(ConnectorError):
    """Our own credential, certificate or address is wrong; the tenant need not do anything."""
