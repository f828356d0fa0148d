"""What Exchange does to bodies: conversion between text and HTML, removal of scripts, normalisation.

Documents: "Get message" (https://learn.microsoft.com/graph/api/message-get): ``outlook.body-content-type``
chooses the format, HTML where nothing is asked; "message resource type", *Removing script from the body
property*: potentially unsafe HTML is removed unless ``Prefer: outlook.allow-unsafe-html``. That Exchange
normalises the HTML it is given is known from practice; the exact form is not documented, so the form here
keeps what is common to observations: a Content-Type meta, lower-case names, double-quoted and re-escaped
attributes, CRLF.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from html.parser import HTMLParser

_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_RAW = frozenset({"script", "style"})
_UNSAFE = frozenset({"script", "object", "embed", "applet", "iframe", "frame", "frameset"})
_URL_ATTRIBUTES = frozenset({"href", "src", "action", "formaction", "background", "xlink:href"})
_BLOCKS = frozenset(
    {
        "p",
        "div",
        "tr",
        "table",
        "ul",
        "ol",
        "li",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "pre",
        "article",
        "section",
        "hr",
    }
)
_META = '<meta http-equiv="Content-Type" content="text/html; charset=utf-8">'


class _Writer(HTMLParser):
    """Writes HTML again, token by token."""

    def __init__(self, *, clean: bool, tidy: bool) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self._clean = clean
        self._tidy = tidy
        self._skipping: str | None = None
        self._depth = 0
        self._raw: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipping is not None:
            self._depth += tag == self._skipping
            return
        if self._clean and tag in _UNSAFE:
            if tag not in _VOID:
                self._skipping, self._depth = tag, 1
            return
        if not self._tidy and not (self._clean and _is_unsafe(attrs)):
            self.out.append(self.get_starttag_text() or "")
        else:
            kept = [pair for pair in attrs if not (self._clean and _is_unsafe([pair]))]
            if self._tidy:
                kept.sort(key=lambda pair: pair[0])
            self.out.append(f"<{tag}{''.join(map(_attribute, kept))}>")
        if tag in _RAW:
            self._raw = tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self._skipping == tag:
            self._skipping = None

    def handle_endtag(self, tag: str) -> None:
        if self._skipping is not None:
            if tag == self._skipping:
                self._depth -= 1
                if self._depth == 0:
                    self._skipping = None
            return
        if self._clean and tag in _UNSAFE:
            return
        self._raw = None
        self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._skipping is None:
            if self._tidy and self._raw is None:
                data = html.escape(data, quote=False).replace("\u00a0", "&nbsp;")
            self.out.append(data)

    def handle_entityref(self, name: str) -> None:
        self._reference(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._reference(f"&#{name};")

    def _reference(self, reference: str) -> None:
        if self._skipping is not None:
            return
        if self._tidy:
            text = html.unescape(reference)
            reference = "&nbsp;" if text == "\u00a0" else html.escape(text, quote=False)
        self.out.append(reference)

    def handle_comment(self, data: str) -> None:
        if self._skipping is None:
            self.out.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        if self._skipping is None and not self._tidy:
            self.out.append(f"<!{decl}>")

    def unknown_decl(self, data: str) -> None:
        if self._skipping is None:
            self.out.append(f"<![{data}]>")

    def handle_pi(self, data: str) -> None:
        if self._skipping is None and not self._tidy:
            self.out.append(f"<?{data}>")


def _attribute(pair: tuple[str, str | None]) -> str:
    name, value = pair
    return f' {name}="{html.escape(value or "", quote=True).replace("&#x27;", chr(39))}"'


def _is_unsafe(attrs: list[tuple[str, str | None]]) -> bool:
    for name, value in attrs:
        if name.startswith("on"):
            return True
        if name in _URL_ATTRIBUTES:
            squeezed = re.sub(r"[\x00-\x20]+", "", value or "").lower()
            if squeezed.startswith(("javascript:", "vbscript:")):
                return True
    return False


def remove_unsafe(content: str) -> str:
    """HTML without scripts, embedded objects, frames, event handlers and script addresses."""
    writer = _Writer(clean=True, tidy=False)
    writer.feed(content)
    writer.close()
    return "".join(writer.out)


def normalise(content: str) -> str:
    """HTML as Exchange gives it back after a write. Normalising twice changes nothing more."""
    writer = _Writer(clean=False, tidy=True)
    writer.feed(content)
    writer.close()
    text = "".join(writer.out)
    text = re.sub(r"<meta [^>]*http-equiv=\"?content-type[^>]*>\s*", "", text, flags=re.IGNORECASE)
    if re.search(r"<head[\s>]", text):
        text = re.sub(r"(<head(?:\s[^>]*)?>)\s*", lambda match: f"{match[1]}\n{_META}", text, count=1)
    elif re.search(r"<html[\s>]", text):
        text = re.sub(r"(<html[^>]*>)\s*", lambda match: f"{match[1]}<head>\n{_META}</head>", text, count=1)
    elif re.search(r"<body[\s>]", text):
        text = f"<html><head>\n{_META}</head>{text.strip()}</html>"
    else:
        text = f"<html><head>\n{_META}</head><body>{text.strip()}</body></html>"
    return re.sub(r"\r\n|\r|\n", "\r\n", text)


_PLAIN_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)


def text_to_html(text: str) -> str:
    """A plain text body as HTML, as for a client that asks for HTML.

    Addresses become links, as Exchange's own conversion makes them.
    """
    out: list[str] = []
    end = 0
    for match in _PLAIN_URL.finditer(text):
        address = match[0].rstrip(".,;:!?)]}'\"")
        target = address if "://" in address else f"http://{address}"
        out.append(html.escape(text[end : match.start()], quote=False))
        out.append(f'<a href="{html.escape(target)}">{html.escape(address, quote=False)}</a>')
        end = match.start() + len(address)
    out.append(html.escape(text[end:], quote=False))
    lines = re.sub(r"\r\n|\r|\n", "<br>\r\n", "".join(out))
    return (
        f"<html><head>\r\n{_META}\r\n"
        '<meta name="Generator" content="Microsoft Exchange Server">\r\n<!-- converted from text -->\r\n'
        "<style><!-- .EmailQuote { margin-left: 1pt; padding-left: 4pt; border-left: #800000 2px solid; } --></style>"
        '</head>\r\n<body>\r\n<font size="2"><span style="font-size:11pt;"><div class="PlainText">'
        f"{lines}</div></span></font>\r\n</body>\r\n</html>\r\n"
    )


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self._hidden = 0
        self._links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "title"):
            self._hidden += 1
        elif tag == "br" or tag in _BLOCKS:
            self.out.append("\n")
        if tag == "a":
            self._links.append(dict(attrs).get("href"))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "title"):
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self.out.append("\n")
        elif tag == "a" and self._links:
            target = self._links.pop()
            if target:
                self.out.append(f"<{target}>")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.out.append(re.sub(r"\s+", " ", data))


def html_to_text(content: str, *, links: bool = True) -> str:
    """An HTML body as plain text; link targets follow their text in angle brackets."""
    reader = _Reader()
    reader.feed(content)
    reader.close()
    text = "".join(reader.out)
    if not links:
        text = re.sub(r"<(?:https?|mailto):[^<>]*>", "", text)
    lines = [line.strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip().replace("\n", "\r\n")


@lru_cache(maxsize=4096)
def preview(body_type: str, content: str) -> str:
    """bodyPreview: the first 255 characters of the text. Kept, because lists ask for it again and again."""
    text = html_to_text(content[:50_000], links=False) if body_type == "html" else content
    return " ".join(text.split())[:255]
