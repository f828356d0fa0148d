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
# Whitespace is HTML's and letters are ASCII's throughout: what a browser takes for something else ends nothing here.
# A comment of words only: browsers end other ones where this would not.
_COMMENT: Final = re.compile(r"<!--[ A-Za-z0-9]*-->")
_MARKUP: Final = re.compile(r"<!--[ A-Za-z0-9]*-->|<[^<>]*>")
_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)((?:[ \t\r\n\f][^<>]*)?)/?>")
_STYLE_BEGINS: Final = re.compile(r"[ \t\r\n\f]*+(?:<!--)?")
_STYLE_ENDS: Final = re.compile(r"</style[ \t\r\n\f]*+>", re.I | re.A)
_ATTRIBUTE: Final = re.compile(
    r"""[ \t\r\n\f]++([A-Za-z-]++)[ \t\r\n\f]*+=[ \t\r\n\f]*+("[^"<>]*+"|'[^'<>]*+'|[^ \t\r\n\f\v"'<>=`]++)"""
)
_LINE_ENDING: Final = frozenset({"br", "div", "p", "pre", "blockquote", "body", "html", "head"})
_PLAIN: Final = _LINE_ENDING | {"font", "span", "meta"}
_ATTRIBUTES: Final = frozenset({"class", "content", "dir", "face", "http-equiv", "id", "lang", "name", "size"})
_OF_LINKS: Final = frozenset({"class", "data-auth", "href", "id", "rel", "target", "title"})
_SELECTOR: Final = re.compile(r"[A-Za-z0-9.,# \t\r\n_-]++")
_LENGTH: Final = r"(?:0|\d{1,2}(?:\.\d{1,3})?(?:px|pt))"
_SPACED: Final = re.compile(
    rf"(?:{_LENGTH}|auto|(?:solid|none|#[0-9a-f]{{3,6}}))(?: (?:{_LENGTH}|auto|solid|#[0-9a-f]{{3,6}})){{0,3}}", re.A
)
_STYLES: Final = {
    "font-family": re.compile(r"[a-z0-9 ,'\"-]++"),
    "font-size": re.compile(r"(?:[6-9]|[1-3]\d)(?:\.\d{1,3})?(?:px|pt)|small|medium|large", re.A),
    "margin": _SPACED,
    "padding": _SPACED,
    "border": _SPACED,
    "white-space": re.compile(r"normal|pre|pre-wrap"),
    "word-wrap": re.compile(r"break-word"),
}
"""What a server sets on a text: a font, and room beside what is quoted. Anything else could hide or invent words."""
_SIDE: Final = re.compile(r"(margin|padding|border)-(?:top|right|bottom|left)")
_UNFINISHED: Final = re.compile(r"&(?:#[0-9]++|#[xX][0-9A-Fa-f]++|[A-Za-z0-9]++);")
_SCHEME: Final = re.compile(r"(?:https?|ftp)://|mailto:|tel:")
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
    while (markup := _MARKUP.search(content, at)) is not None:
        between = content[at : markup.start()]
        if "<" in between:
            return None
        (out if linked is None else linked).append(between)
        at = markup.end()
        found = markup[0]
        if _COMMENT.fullmatch(found) is not None:
            continue
        tag = _TAG.fullmatch(found)
        if tag is None:
            if found[:9].lower() == "<!doctype":
                continue
            return None
        closing, name, rest = tag[1], tag[2].lower(), tag[3]
        if name == "style" and not closing:
            if (at := _after_style(content, at)) < 0:
                return None
            continue
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


def _after_style(content: str, at: int) -> int:
    """Where a style element ends; -1 where it does more than a server does to a text."""
    begins = _STYLE_BEGINS.match(content, at)
    start = at if begins is None else begins.end()
    end = content.find("<", start)
    ends = _STYLE_ENDS.match(content, end) if end >= 0 else None
    if ends is None:
        return -1
    *rules, rest = content[start:end].strip().removesuffix("-->").split("}")
    for rule in rules:
        selector, _, declarations = rule.partition("{")
        if _SELECTOR.fullmatch(selector) is None or not _is_font_or_margin(declarations):
            return -1
    return -1 if rest.strip() else ends.end()


def _is_harmless(name: str, rest: str) -> bool:
    attributes = _attributes(rest, _ATTRIBUTES | {"style"})
    if attributes is None or not _is_font_or_margin(attributes.get("style", "")):
        return False
    return name != "meta" or attributes.get("http-equiv", "content-type").lower() == "content-type"


def _is_font_or_margin(declarations: str) -> bool:
    """Whether declarations of CSS do no more than set a font that can be read and a margin."""
    for declaration in declarations.split(";"):
        if not declaration.strip():
            continue
        name, _, value = declaration.lower().partition(":")
        side = _SIDE.fullmatch(name.strip())
        known = _STYLES.get(name.strip() if side is None else side[1])
        if known is None or known.fullmatch(" ".join(value.split())) is None:
            return False
    return True


def _attributes(rest: str, known: frozenset[str]) -> dict[str, str] | None:
    """Names and values of a start tag; None where one is unknown or cannot be read."""
    found: dict[str, str] = {}
    end = 0
    while (attribute := _ATTRIBUTE.match(rest, end)) is not None:
        name = attribute[1].lower()
        if name not in known or name in found:
            return None
        value = attribute[2]
        found[name] = html.unescape(value[1:-1] if value[0] in "\"'" else value)
        if name == "href" and _is_ambiguous(value):
            return None
        end = attribute.end()
    return found if not rest[end:].strip(" \t\r\n/") else None


def _is_ambiguous(text: str) -> bool:
    """Whether a reference has no semicolon: it means one thing in an attribute and another in a text."""
    bare = _UNFINISHED.sub("", text)
    return html.unescape(bare) != bare


def _leads_to_itself(link: str, shown: str) -> bool:
    """Whether a link leads where its text says, and the text is an address to any reader."""
    text = html.unescape(shown).strip(" \t\r\n")
    if " " in text or not text.isprintable() or _is_ambiguous(shown):
        return False
    low = text.lower()
    if low.startswith("www."):
        schemes = ("http://",)
    elif _SCHEME.match(low) is not None:
        schemes = ("",)
    elif "@" in text:
        schemes = ("mailto:",)
    else:
        return False
    return link.rstrip("/") in {f"{scheme}{text}".rstrip("/") for scheme in schemes}
