"""Keys of sources: only where they are is stored, never the keys themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from app.verdicts.sources.types import SourceFailed

MAX_SECRET_BYTES: Final = 16_384


def read_secret(reference: str) -> str:
    """The key behind a reference.

    Args:
        reference: ``env:NAME``, ``file:PATH`` or empty.

    Returns:
        The key without the white space around it; empty for an empty reference.

    Raises:
        SourceFailed: It is not there, or the reference is of another form. The key is never in the message.
    """
    if not reference:
        return ""
    scheme, _, rest = reference.partition(":")
    try:
        if scheme == "env":
            found = os.environ[rest]
        elif scheme == "file":
            with Path(rest).open("rb") as file:
                found = file.read(MAX_SECRET_BYTES).decode("utf-8")
        else:
            raise SourceFailed(
                "A key is given as env:NAME or file:PATH. The source was not asked.", reason="secret"
            ) from None
    except KeyError:
        raise SourceFailed(
            f"The environment variable {rest} is not set. The source was not asked.", reason="secret"
        ) from None
    except (OSError, UnicodeError):
        raise SourceFailed(f"The key file {rest} cannot be read. The source was not asked.", reason="secret") from None
    if not found.strip():
        raise SourceFailed("The key is empty. The source was not asked.", reason="secret")
    return found.strip()
