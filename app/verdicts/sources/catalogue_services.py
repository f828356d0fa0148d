"""The kinds of sources that are asked or synchronised over a protocol of their own, each with its terms."""

from __future__ import annotations

from typing import Final

from app.verdicts.sources.types import Kind

KINDS: Final[tuple[Kind, ...]] = ()
