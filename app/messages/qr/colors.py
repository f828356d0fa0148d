"""How bright a CSS or HTML color is: enough to tell a dark module from a light one.

Reference: CSS Color Module Level 4 (https://www.w3.org/TR/css-color-4/); named colors are those that tools
which draw codes use.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_NAMED: Final = {
    "black": 0, "white": 255, "gray": 128, "grey": 128, "silver": 192, "darkgray": 169, "darkgrey": 169,
    "dimgray": 105, "dimgrey": 105, "lightgray": 211, "lightgrey": 211, "gainsboro": 220, "whitesmoke": 245,
    "snow": 250, "ivory": 250, "navy": 14, "blue": 29, "darkblue": 16, "midnightblue": 33, "royalblue": 106,
    "red": 76, "darkred": 42, "maroon": 38, "crimson": 71, "green": 75, "darkgreen": 59, "lime": 150,
    "teal": 90, "purple": 53, "indigo": 37, "yellow": 226, "orange": 173, "darkslategray": 70,
    "darkslategrey": 70, "slategray": 126, "azure": 250, "beige": 242, "linen": 241,
}  # fmt: skip
_NUMBERS_RE = re.compile(r"[\d.]+%?")
_DECLARATION_RE = re.compile(r"([a-zA-Z\-]+)\s*:\s*([^;]+)")


@lru_cache(maxsize=2_048)
def brightness(value: str) -> int | None:
    """Return the brightness of a color.

    Args:
        value: A color as HTML attributes, CSS and SVG write it.

    Returns:
        0 (black) to 255 (white); None for ``none``, ``transparent`` and what is no color. A paint server
        (``url(#...)``) counts as dark.
    """
    text = value.strip().lower().removesuffix("!important").strip()
    if text in _NAMED:
        return _NAMED[text]
    if text.startswith("url("):
        return 0
    if text.startswith("#") or re.fullmatch(r"[0-9a-f]{6}", text):
        return _hexadecimal(text.removeprefix("#"))
    if text.startswith(("rgb", "hsl")):
        return _function(text)
    return 0 if text in ("currentcolor", "windowtext") else None


def _luma(red: float, green: float, blue: float) -> int:
    return max(0, min(255, round(0.299 * red + 0.587 * green + 0.114 * blue)))


def _hexadecimal(digits: str) -> int | None:
    if len(digits) in (3, 4):
        digits = "".join(digit * 2 for digit in digits)
    if len(digits) not in (6, 8):
        return None
    try:
        parts = [int(digits[i : i + 2], 16) for i in range(0, len(digits), 2)]
    except ValueError:
        return None
    if len(parts) == 4 and parts[3] < 64:
        return None
    return _luma(parts[0], parts[1], parts[2])


def _function(text: str) -> int | None:
    numbers = [
        float(item.rstrip("%")) * (2.55 if item.endswith("%") else 1.0)
        for item in _NUMBERS_RE.findall(text)
        if item.strip(".%").count(".") <= 1 and item.strip(".%")
    ]
    if len(numbers) < 3 or (len(numbers) > 3 and numbers[3] < 0.25):
        return None
    return round(numbers[2]) if text.startswith("hsl") else _luma(*numbers[:3])


def declarations(style: str) -> dict[str, str]:
    """Return the declarations of a ``style`` attribute; the last of one name counts."""
    return {name.lower(): value.strip() for name, value in _DECLARATION_RE.findall(style[:1_000])}


def background(style: dict[str, str]) -> int | None:
    """Return the brightness of a background from declarations, or None."""
    color = style.get("background-color")
    if color is not None:
        return brightness(color)
    shorthand = style.get("background")
    if shorthand is None:
        return None
    whole = brightness(shorthand)
    if whole is not None:
        return whole
    return next((found for word in shorthand.split() if (found := brightness(word)) is not None), None)
