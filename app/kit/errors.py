"""The application's own errors: one small tree, each with words for the person who meets it.

::

    PosternError
    ├── ConfigurationError     a setting is wrong; the service does not start
    ├── NotFound               absent, or not yours: the two are not told apart
    ├── Forbidden              signed in, but the role does not allow it
    ├── Refused                bad input; names what was wrong and what was left untouched
    └── Conflict               somebody else was faster, or it is done already
"""

from __future__ import annotations


class PosternError(Exception):
    """Base. ``str(error)`` is fit to be shown and holds no secret."""


class ConfigurationError(PosternError):
    """A setting is missing or wrong."""


class NotFound(PosternError):
    """There is no such thing, or none that this person may see."""


class Forbidden(PosternError):
    """The role does not allow this."""


class Refused(PosternError):
    """The input is not acceptable; nothing was changed.

    Args:
        message: What was wrong and what to do.
        code: Stable name for counting and translation.
    """

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class Conflict(PosternError):
    """The state moved on; nothing was changed."""
