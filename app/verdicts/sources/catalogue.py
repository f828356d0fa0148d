"""The kinds of downloaded lists, each with its terms."""

from __future__ import annotations

from typing import Final

from app.verdicts.sources.types import Kind

KINDS: Final[tuple[Kind, ...]] = ()
