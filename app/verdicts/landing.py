"""What a landing page wants from its visitor: the signs of a page that collects passwords (L10). PURE.

Looked at is the page as it was delivered, without running its scripts. What cannot be seen that way (a CAPTCHA in
front, a page that only scripts build) is a finding of its own, never "clean" (N7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import ada_url
from bs4 import BeautifulSoup, Tag

from app.messages.brands import BRANDS, OWNERS, Brand, same_owner
from app.messages.hosts import host_of, registrable_domain, words
from app.verdicts.heuristics import is_anonymous_host
from app.verdicts.scoring import Signal

MAX_HTML: Final = 600_000
MAX_TAGS: Final = 30_000
"""Marks "<" that are read: each tag costs some ten microseconds, and a page can consist of nothing else."""
LITTLE_TEXT: Final = 60

_PASSWORD_NAMES: Final = re.compile(
    r"pass(?:word|wd|wort|code|phrase)?\d*$|^pwd|passwd|kennwort|senha|contrase", re.IGNORECASE
)
_LOGIN_NAMES: Final = re.compile(r"user|mail|login|account|konto|phone|card|iban|otp|pin\b|seed", re.IGNORECASE)
_SCRIPTED_FORM_RE: Final = re.compile(
    r"""type\s*=\s*\\?["']password|\.type\s*=\s*["']password|setAttribute\(\s*["']type["']\s*,\s*["']password""",
    re.IGNORECASE,
)
_OBFUSCATION: Final = (
    re.compile(r"document\.write(?:ln)?\s*\(\s*(?:unescape|decodeURIComponent|atob)\s*\(", re.IGNORECASE),
    re.compile(r"eval\s*\(\s*(?:atob|unescape|function\s*\(\s*p\s*,\s*a\s*,\s*c\s*,\s*k)", re.IGNORECASE),
    re.compile(r"String\.fromCharCode\s*\((?:\s*\d+\s*,){20,}", re.IGNORECASE),
    re.compile(r"""atob\s*\(\s*["'][A-Za-z0-9+/=]{400,}["']""", re.IGNORECASE),
    re.compile(r"""unescape\s*\(\s*["'](?:%[0-9a-f]{2}){60,}""", re.IGNORECASE),
    re.compile(r"(?:\\x[0-9a-f]{2}){80,}", re.IGNORECASE),
)
_GATES: Final = re.compile(
    r"g-recaptcha|recaptcha/api\.js|h-captcha|hcaptcha\.com|cf-turnstile|challenges\.cloudflare\.com|"
    r"cf-chl-|checking your browser|just a moment\.\.\.|verify (?:that )?you are (?:a )?human|are you a robot|"
    r"press (?:and|&) hold|arkoselabs|friendlycaptcha|geetest",
    re.IGNORECASE,
)
_ELSEWHERE_WORDS: Final = words("with via using mit über continue")
_WORD_RE: Final = re.compile(r"[^\W_]+", re.UNICODE)
_SHORT_OR_ORDINARY: Final = words("ups chase zoom booking kraken ledger stripe proton evri apple discord")
"""Brand names that are words: only taken for the brand where the title begins or ends with them."""


def page_signals(html: bytes, url: str, own_domains: frozenset[str] = frozenset()) -> tuple[Signal, ...]:
    """What a page shows.

    Args:
        html: As delivered; the first 600,000 bytes and 30,000 tags are looked at.
        url: Where it was, after redirects.
        own_domains: The tenant's own: their sign-in pages are no finding.
    """
    soup = BeautifulSoup(_bounded(html), "lxml")
    host = host_of(url) or ""
    domain = registrable_domain(host) or host
    text = _visible_text(soup)
    scripts = "\n".join(script.get_text() for script in soup.find_all("script"))
    fields = _password_fields(soup)
    scripted = bool(_SCRIPTED_FORM_RE.search(scripts))
    hidden = any(pattern.search(scripts) for pattern in _OBFUSCATION)
    signals: list[Signal] = []
    gate = _GATES.search(text) or _GATES.search(_markup_names(soup))
    if gate is not None and not fields:
        signals.append(Signal("cannot_see_gate", 15, source="page"))
    elif len(text) < LITTLE_TEXT and (scripts or soup.find("script", src=True)) and not fields and not scripted:
        signals.append(Signal("cannot_see_script", 15, source="page"))
    if hidden:
        signals.append(Signal("hidden_form", 45 if scripted or fields else 30, source="page"))
    if not fields and not scripted and not (hidden and _asks_for_login(soup)):
        return tuple(signals)
    if domain in own_domains or host in own_domains:
        return tuple(signals)
    brand = _shown_brand(soup, domain)
    if brand is not None:
        signals.append(Signal("login_page", 60, (("brand", brand.name.title()), ("host", host)), "page"))
    elif is_anonymous_host(host):
        signals.append(Signal("login_on_free_host", 45, (("host", host),), "page"))
    target = _sent_to(soup, fields, url)
    if target and target != domain and not same_owner(target, domain):
        signals.append(Signal("password_elsewhere", 30, (("host", target),), "page"))
    if url.startswith("http:"):
        signals.append(Signal("password_in_clear", 20, source="page"))
    if not signals:
        signals.append(Signal("asks_password", 0, source="page"))
    return tuple(signals)


def _bounded(html: bytes) -> bytes:
    html = html[:MAX_HTML]
    if html.count(b"<") <= MAX_TAGS:
        return html
    return html[: len(html) - len(html.split(b"<", MAX_TAGS)[-1]) - 1]


def _visible_text(soup: BeautifulSoup) -> str:
    parts = []
    for string in soup.find_all(string=True):
        parent = string.parent
        if parent is not None and parent.name not in ("script", "style", "noscript", "template", "title", "head"):
            parts.append(str(string))
    return " ".join(" ".join(parts).split())


def _markup_names(soup: BeautifulSoup) -> str:
    """Classes, ids and addresses of scripts and frames, in which gates show themselves."""
    found: list[str] = []
    for tag in soup.find_all(True):
        if tag.name in ("script", "iframe", "form"):
            found += [str(tag.get("src", "")), str(tag.get("action", "")), str(tag.get("id", ""))]
        classes = tag.get("class")
        if isinstance(classes, list):
            found += classes
    title = soup.title
    return " ".join([*found, title.get_text() if title is not None else ""])


def _password_fields(soup: BeautifulSoup) -> list[Tag]:
    found = []
    for field in soup.find_all("input"):
        kind = str(field.get("type", "text")).strip().lower()
        names = f"{field.get('name', '')} {field.get('id', '')} {field.get('autocomplete', '')}"
        masked = "text-security" in str(field.get("style", "")).lower()
        if kind == "password" or masked or (kind in ("text", "tel") and _is_password_name(names)):
            found.append(field)
    return found


def _is_password_name(names: str) -> bool:
    return any(_PASSWORD_NAMES.search(name) for name in names.split())


def _asks_for_login(soup: BeautifulSoup) -> bool:
    return any(
        _LOGIN_NAMES.search(f"{field.get('name', '')} {field.get('id', '')} {field.get('placeholder', '')}")
        for field in soup.find_all("input")
        if str(field.get("type", "text")).lower() not in ("hidden", "submit", "search", "checkbox", "button")
    )


def _sent_to(soup: BeautifulSoup, fields: list[Tag], url: str) -> str:
    """The registrable domain that a password would be sent to; empty where the page does not say."""
    for field in fields:
        form = field.find_parent("form")
        action = "" if form is None else str(form.get("action", "")).strip()
        if not action:
            continue
        try:
            target = ada_url.URL(action, base=url)
        except (ValueError, UnicodeError):
            continue
        if target.protocol == "mailto:":
            return target.pathname.rpartition("@")[2].lower() or "?"
        if target.protocol in ("http:", "https:") and target.hostname:
            return registrable_domain(target.hostname) or target.hostname
    return ""


def _shown_brand(soup: BeautifulSoup, domain: str) -> Brand | None:
    """The well-known name that a page shows as its own, where the page does not belong to it."""
    if domain in OWNERS:
        return None
    places = list(_claims(soup))
    for brand in BRANDS:
        if domain in brand.domains:
            continue
        for place in places:
            if _names(place, brand):
                return brand
    for source in _icon_hosts(soup):
        owners = OWNERS.get(source)
        if owners and source != domain:
            wanted = min(owners)
            return next((brand for brand in BRANDS if brand.name == wanted), None)
    return None


def _claims(soup: BeautifulSoup) -> Iterator[list[str]]:
    """Words of the places where a page says who it is: title, headings, logos. Not buttons and not running text."""
    if soup.title is not None:
        yield _words(soup.title.get_text())
    for tag in soup.find_all(["h1", "h2", "legend"]):
        yield _words(tag.get_text(" "))
    for image in soup.find_all("img"):
        label = str(image.get("alt", ""))
        if tag_is_logo(image) or "logo" in label.lower():
            yield _words(label)
    for meta in soup.find_all("meta"):
        if str(meta.get("property", meta.get("name", ""))).lower() in ("og:site_name", "application-name"):
            yield _words(str(meta.get("content", "")))


def tag_is_logo(tag: Tag) -> bool:
    """Whether an image calls itself a logo."""
    return "logo" in f"{tag.get('src', '')} {tag.get('id', '')} {tag.get('class', '')}".lower()


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD_RE.findall(text)][:30]


def _names(found: list[str], brand: Brand) -> bool:
    name = brand.name.replace("-", "")
    joined = "".join(found)
    for position, word in enumerate(found):
        if word == name:
            if position and found[position - 1] in _ELSEWHERE_WORDS:
                continue
            if name in _SHORT_OR_ORDINARY and position not in (0, len(found) - 1):
                continue
            return True
    # "Bank of America", "Wells Fargo", "Office 365": written apart.
    return len(name) >= 8 and name in joined and not any(name in word for word in found)


def _icon_hosts(soup: BeautifulSoup) -> Iterator[str]:
    for link in soup.find_all("link"):
        if "icon" in str(link.get("rel", "")).lower():
            host = host_of(str(link.get("href", "")))
            if host:
                yield registrable_domain(host) or host
    for image in soup.find_all("img"):
        host = host_of(str(image.get("src", "")))
        if host and tag_is_logo(image):
            yield registrable_domain(host) or host
