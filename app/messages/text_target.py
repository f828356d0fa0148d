"""Display text that shows another address than the one the link leads to.

Only text that a reader takes for an address is compared: one with a scheme, with ``www.``, or a bare host
name with a known public suffix that is not also a word, a file name or a joined-up sentence. What follows a
scheme is an address whatever its suffix: names such as ``intranet.corp`` are on no list. Where two addresses
belong to one registrable domain (for an unlisted suffix, the last two labels), or to one owner as far as
known, nothing is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from app.messages.brands import same_owner
from app.messages.host_findings import HostFinding, Strength, finding
from app.messages.hosts import host_of, is_ip, public_suffix, registrable_domain, unicode_host, words

_MAX_TEXT: Final = 2_000
_INVISIBLE: Final = dict.fromkeys(
    [
        0xAD,
        0x34F,
        0x61C,
        0x180E,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2065),
        0xFEFF,
    ]
)
_OTHER_DOTS: Final = "\u3002\uff0e\uff61\u2024"
_DOTS: Final = str.maketrans(dict.fromkeys(_OTHER_DOTS, "."))
_TOKEN_RE = re.compile(r"[^\s<>\"\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a(){}\[\]|,;]+")
_SCHEME_RE = re.compile(r"(?:hxxps?|https?)(?::|%3a)[/\\]{0,3}", re.IGNORECASE)
_BARE_RE = re.compile(r"(?:[\w\-]+\.)+[\w\-]{2,}\Z")
_CUT_RE = re.compile(r"(?:\u2026|\.{2,})['\u2018\u2019`*_~!?:]*\Z")
_THIS_COMPUTER: Final = frozenset({"localhost", "127.0.0.1"})
_NAME_END_RE = re.compile(r"[/\\?#:]")
# Endings that are file-name extensions or ordinary words as well as top-level domains.
_DOUBTFUL_SUFFIXES: Final = words("""
    ai am app as at be bz by cc cd cfd cpp doc do es foo gz id in is it java la lk md me mm mov my no
    name now one pl pm ps py rs sc sh so st sub to tv us win work zip
""")
_PRODUCT_NAMES: Final = frozenset(
    {
        "asp.net",
        "ado.net",
        "vb.net",
        "ml.net",
        "node.js",
        "next.js",
        "vue.js",
        "socket.io",
        "system.io",
        "java.net",
    }
)


@dataclass(frozen=True, slots=True)
class TextMismatch:
    """A link whose text shows another host than its target.

    Attributes:
        shown: The host the text shows, as people read it.
        shown_host: The same, as a browser would contact it (A-labels).
        host: The host the link leads to.
        strength: ``strong`` where the text is nothing but an address, or has one with a scheme or ``www.``;
            ``weak`` for a bare host name in a sentence.
    """

    shown: str
    shown_host: str
    host: str
    strength: Strength

    def as_finding(self) -> HostFinding:
        """Return the mismatch as a finding with its sentence."""
        return finding("text_mismatch", self.strength, shown=self.shown, host=unicode_host(self.host))


def text_mismatch(display_text: str, url: str) -> TextMismatch | None:
    """Compare what a link's text shows with where the link leads.

    Args:
        display_text: The text a reader sees, with markup taken out.
        url: The link's target, absolute. Open other vendors' wrappers first
            (:func:`app.messages.wrappers.unwrap`): a wrapped link always differs from its text.

    Returns:
        The mismatch, or None: no address in the text, the same registrable domain, one known owner,
        or a sentence in which one of the addresses is the target.
    """
    if not ("." in display_text or "//" in display_text) and (
        display_text.isascii() or not any(dot in display_text for dot in _OTHER_DOTS)
    ):
        return None
    text = display_text[:_MAX_TEXT]
    if not text.isascii():
        text = text.translate(_INVISIBLE).translate(_DOTS)
    tokens = _TOKEN_RE.findall(text)
    alone = len(tokens) == 1
    target: str | None = None
    mismatch: TextMismatch | None = None
    for token in tokens:
        if "." not in token and "//" not in token:
            continue
        shown = _shown_host(token, alone)
        if shown is None:
            continue
        if target is None:
            target = host_of(url)
            if target is None:
                return None
        host, strength = shown
        if _belong_together(host, target) or _is_cut_off(token, host, target):
            return None
        if mismatch is None or (strength == "strong" and mismatch.strength == "weak"):
            mismatch = TextMismatch(unicode_host(host), host, target, strength)
    return mismatch


def _belong_together(shown: str, target: str) -> bool:
    if shown.removeprefix("www.") == target.removeprefix("www."):
        return True
    if shown in _THIS_COMPUTER and target in _THIS_COMPUTER:
        return True
    # Both are the last two labels where no listed suffix ends the host.
    first, second = registrable_domain(shown), registrable_domain(target)
    if first is None or second is None:
        return False
    return first == second or same_owner(first, second)


def _is_cut_off(token: str, shown: str, target: str) -> bool:
    """Whether the text is the beginning of the target's own host, cut off within a label (``www.bank.ex...``).

    A host that is whole before the dots is not: ``bank.local...`` shows ``bank.local``, whatever follows it.
    """
    if public_suffix(shown) is not None or not _CUT_RE.search(token):
        return False
    rest = target.removeprefix(shown)
    return rest != target and not rest.startswith(".")


def _shown_host(token: str, alone: bool) -> tuple[str, Strength] | None:
    """Return the host a reader sees in one word of text, and how much it looks like an address."""
    token = token.strip(".'\u2018\u2019`*_~!?:\u2026")
    scheme = _SCHEME_RE.match(token)
    if scheme:
        host = host_of("http://" + token[scheme.end() :])
        return (host, "strong") if host and _is_address(host, scheme[0], token) else None
    end = _NAME_END_RE.search(token)
    name = token[: end.start()] if end else token
    if "@" in name or not _BARE_RE.match(name):
        return None
    host = host_of(f"http://{name}/")
    if host is None or is_ip(host):
        return None
    suffix = public_suffix(host)
    if suffix is None or suffix == host:
        return None
    if host.startswith("www."):
        return host, "strong"
    if not _reads_as_host(name, host, suffix, has_path=end is not None and len(token) > end.start() + 1):
        return None
    return host, "strong" if alone else "weak"


def _is_address(host: str, scheme: str, token: str) -> bool:
    """Whether what follows a scheme is a host of several labels, an IP address however spelt, or ``localhost``."""
    if not scheme.endswith(("/", "\\")):
        # "http:index.html" is a browser's address, but not a reader's unless it ends as addresses do.
        return "." in token and "." in host and (is_ip(host) or public_suffix(host) is not None)
    if is_ip(host):
        return "." in token or not host.startswith("0.")  # "http://404" is no address
    return host == "localhost" or ("." in host and all(host.split(".")))


def _reads_as_host(name: str, host: str, suffix: str, *, has_path: bool) -> bool:
    """Whether a bare name is read as a host rather than as a word, a file or two joined sentences."""
    if host in _PRODUCT_NAMES or (host[0].isdigit() and host.replace(".", "").isdigit()):
        return False
    last = name.rpartition(".")[2]
    if last[0].isupper() and not last.isupper():
        return False  # "thanks.Please": a full stop without its space
    two_labels = host.count(".") == suffix.count(".") + 1
    if suffix in _DOUBTFUL_SUFFIXES and two_labels and not has_path:
        return False
    label = host.removesuffix("." + suffix).rpartition(".")[2]
    return len(label) > 1 or has_path
