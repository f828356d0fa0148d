"""How tests start Chromium: without a sandbox, since CI runs as root, and without asking anybody outside."""

from __future__ import annotations

from typing import Final

ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
