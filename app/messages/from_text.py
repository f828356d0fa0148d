"""Telling HTML that a mail server made of a plain text from HTML that somebody wrote. PURE.

Exchange hands out every body as HTML when asked for it, plain texts too: line breaks, one font, and addresses as links
to themselves (MS-OXBBODY and MS-OXCMSG call the stored form the "native body"). Such HTML can hold a text that is
signed with OpenPGP inline, which any change would make invalid; HTML that somebody wrote cannot, whatever stands in
it. A forger gains nothing: what passes here is no more than what a plain text shows.
"""

from __future__ import annotations

import html
import re
from typing import Final

_ARMOUR: Final = "-----BEGIN PGP "
_ARMOURED: Final = re.compile(r"(?m)^[ \t]*-----BEGIN PGP (?:SIGNED )?MESSAGE-----")
# A comment of words only: browsers end other ones where this would not.
_COMMENT: Final = r"<!--[ A-Za-z0-9]*-->"
_STYLE: Final = r"<style\b[^<>]*>\s*(?:<!--)?[^<>@\\]*(?:-->)?\s*</style\s*>"
_MARKUP: Final = re.compile(rf"{_COMMENT}|{_STYLE}|<[^<>]*>", re.I)
_TAG: Final = re.compile(r"<(/?)([a-z][a-z0-9]*)((?:\s[^<>]*)?)/?>", re.S | re.I)
_ATTRIBUTE: Final = re.compile(r"""\s+([a-z][a-z-]*)\s*=\s*("[^"<>]*"|'[^'<>]*'|[^\s"'<>=`]+)""", re.I)
_LINE_ENDING: Final = frozenset({"br", "div", "p", "pre", "blockquote", "body", "html", "head"})
_PLAIN: Final = _LINE_ENDING | {"font", "span", "meta", "title"}
_ATTRIBUTES: Final = frozenset({"class", "color", "content", "dir", "face", "http-equiv", "id", "lang", "name", "size"})
_OF_LINKS: Final = frozenset({"class", "data-auth", "href", "id", "rel", "target", "title"})
_DESIGN: Final = ("url", "display", "position", "visibility", "opacity", "expression", "\\", "/*")
_MOST: Final = 2_000_000


def is_armoured_text(content: str) -> bool:
    """Whether HTML is no more than a plain text that OpenPGP signed or encrypted inline (RFC 9580, section 6.2).

    Args:
        content: The HTML, as Microsoft Graph gives it.
    """
    if _ARMOUR not in content or len(content) > _MOST:
        return False
    text = plain_text(content)
    return text is not None and _ARMOURED.search(text) is not None


def plain_text(content: str) -> str | None:
    """The text that a server made this HTML of; None for HTML with anything that no plain text has."""
    out: list[str] = []
    at, link = 0, ""
    linked: list[str] | None = None
    for markup in _MARKUP.finditer(content):
        between = content[at : markup.start()]
        if "<" in between:
            return None
        (out if linked is None else linked).append(between)
        at = markup.end()
        found = markup[0]
        if found.startswith("<!--"):
            if re.fullmatch(_COMMENT, found) is None:
                return None
            continue
        if found[:6].lower() == "<style":
            if not found.endswith(">") or "</" not in found or _designs(found):
                return None
            continue
        tag = _TAG.fullmatch(found)
        if tag is None:
            if found[:9].lower() == "<!doctype":
                continue
            return None
        closing, name, rest = tag[1], tag[2].lower(), tag[3]
        if name == "a":
            if closing:
                if linked is None or not _leads_to_itself(link, "".join(linked)):
                    return None
                out += linked
                linked = None
                continue
            attributes = _attributes(rest, _OF_LINKS)
            if linked is not None or attributes is None:
                return None
            linked, link = [], attributes.get("href", "")
            continue
        if name not in _PLAIN or linked is not None:
            return None
        if not closing and not _is_harmless(name, rest):
            return None
        if name in _LINE_ENDING:
            out.append("\n")
    rest = content[at:]
    if "<" in rest or linked is not None:
        return None
    return html.unescape("".join([*out, rest]))


def _is_harmless(name: str, rest: str) -> bool:
    attributes = _attributes(rest, _ATTRIBUTES | {"style"})
    if attributes is None:
        return False
    if _designs(attributes.get("style", "")):
        return False
    return name != "meta" or attributes.get("http-equiv", "content-type").lower() == "content-type"


def _designs(style: str) -> bool:
    """Whether a style does more than set a font and a margin: hides, moves, loads."""
    return any(word in style.lower() for word in _DESIGN)


def _attributes(rest: str, known: frozenset[str]) -> dict[str, str] | None:
    """Names and values of a start tag; None where one is unknown or cannot be read."""
    found: dict[str, str] = {}
    end = 0
    for attribute in _ATTRIBUTE.finditer(rest):
        name = attribute[1].lower()
        if attribute.start() != end or name not in known or name in found:
            return None
        found[name] = html.unescape(attribute[2].strip("\"'"))
        end = attribute.end()
    return found if not rest[end:].strip(" \t\r\n/") else None


def _leads_to_itself(link: str, shown: str) -> bool:
    text = html.unescape(shown).strip()
    return bool(text) and link.rstrip("/") in {f"{scheme}{text}".rstrip("/") for scheme in ("", "http://", "mailto:")}
