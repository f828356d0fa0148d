"""QR codes in mail: find them, make them unreadable, or put another in their place.

Pure: bytes and bitmaps in, values out. Nothing that a code says is ever fetched. Modules by where a code can
stand: images (here), :mod:`~app.messages.qr.svg`, :mod:`~app.messages.qr.pdf`, :mod:`~app.messages.qr.documents` and
:mod:`~app.messages.qr.html_blocks`.
"""

from __future__ import annotations

from app.messages.qr.images import JoinedCode, find, join, join_scan, pixels, scan
from app.messages.qr.paint import CannotPaint, Repainted, deface, repaint, replace
from app.messages.qr.types import REFUSALS, QrCode, QrLimits, QrScan

__all__ = [
    "REFUSALS",
    "CannotPaint",
    "JoinedCode",
    "QrCode",
    "QrLimits",
    "QrScan",
    "Repainted",
    "deface",
    "find",
    "join",
    "join_scan",
    "pixels",
    "repaint",
    "replace",
    "scan",
]
