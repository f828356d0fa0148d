"""Signals that need nothing but the URL itself. PURE.

The findings about the host come from ``app.messages`` (they are also made at delivery); what is added here
concerns the whole address. ``docs/verdicts.md`` lists every signal with its weight.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import ada_url

from app.messages.brands import OWNERS
from app.messages.host_findings import HostFinding
from app.messages.hosts import host_of, is_ip, registrable_domain, unicode_host, words
from app.messages.lookalike import CARRIERS, inspect_url
from app.messages.shorteners import shortener
from app.messages.wrappers import Unwrapped, unwrap
from app.verdicts.scoring import Level, Signal

MAX_CHAIN: Final = 8
"""Addresses inside each other that are followed without a network."""

BY_STRENGTH: Final[Mapping[str, int]] = MappingProxyType({"note": 5, "weak": 20, "strong": 50})
"""Weight of a host finding, unless :data:`BY_CODE` says otherwise."""

BY_CODE: Final[Mapping[str, int]] = MappingProxyType(
    {
        "homograph": 75,
        "homograph_unnamed": 50,
        "ip_host": 40,
        "ip_host_disguised": 65,
        "user_information": 60,
        "shortener": 15,
        "punycode": 5,
    }
)

PRIVATE_IP_WEIGHT: Final = 10
"""An address of the reader's own network cannot be a page on the internet."""

FREE_HOSTING: Final = words("""
    000webhostapp.com altervista.org azurestaticapps.net blogspot.com codesandbox.io firebaseapp.com fly.dev
    github.io gitlab.io glitch.me godaddysites.com herokuapp.com infinityfreeapp.com ipfs.io jimdosite.com
    netlify.app notion.site ngrok-free.app ngrok.app ngrok.io onrender.com pages.dev r2.dev railway.app repl.co
    replit.app replit.dev square.site surge.sh trycloudflare.com tumblr.com typeform.com vercel.app web.app
    webflow.io weebly.com weeblysite.com wixsite.com wordpress.com workers.dev
""")
"""Services where anybody can put a page under a name of the service."""

RUNNABLE: Final = words("""
    apk appimage appx bat cab cmd cpl dmg exe hta img iso jar jnlp js jse lnk msi msix pif pkg ps1 reg scr
    sh vbe vbs vhd vhdx wsf wsh xll
""")
"""File name endings that a double click runs."""

_SUSPECT_WORDS: Final = words("""
    login logon signin verify verification validate webscr suspended unlock password passwort credential
    mfa wallet seedphrase owa adfs oauth2 sso anmelden konto
""")
_WORD_RE = re.compile(r"[a-z0-9]+")
_DEEP_LABELS: Final = 6
_USUAL_PORTS: Final = ("", "80", "443", "8080", "8443")
_TARGET_RE = re.compile(r"https?(?::|%3a)(?:/|%2f){2}", re.IGNORECASE)


def open_chain(url: str) -> tuple[tuple[str, ...], Unwrapped]:
    """The address and every one inside it: other vendors' wrappers opened, outermost first."""
    opened = unwrap(url)
    chain = tuple(hit.url for hit in opened.chain)
    if not chain or chain[-1] != opened.url:
        chain = (*chain, opened.url)
    return chain[:MAX_CHAIN], opened


def url_signals(url: str, own_domains: frozenset[str] = frozenset()) -> tuple[Signal, ...]:
    """Everything that the address itself says.

    Args:
        url: As it stood in the message.
        own_domains: The tenant's own; imitations of them are found too.

    Returns:
        Signals about the innermost address, and about how it was wrapped.
    """
    chain, opened = open_chain(url)
    target = chain[-1]
    signals: list[Signal] = []
    if opened.opaque and opened.chain:
        signals.append(_signal("wrapped_opaque", 10, wrapper=opened.chain[-1].vendor))
    elif opened.chain:
        signals.append(_signal("wrapped", 0, wrapper=opened.chain[0].vendor, host=_shown(target)))
    try:
        parsed = ada_url.URL(target)
    except (ValueError, UnicodeError):
        return (*signals, _signal("unreadable", 40))
    if parsed.protocol not in ("http:", "https:"):
        return (*signals, _signal("not_web", 60))
    host = parsed.hostname.rstrip(".")
    signals.extend(_from_finding(found, host) for found in inspect_url(target, own_domains))
    signals.extend(_about_host(host))
    signals.extend(_about_address(host, parsed))
    signals.extend(_good_name(host, parsed.protocol == "https:"))
    return tuple(signals)


def is_anonymous_host(host: str) -> bool:
    """Whether nobody answers with a name for what is on a host: a public IP address, or free hosting."""
    if is_ip(host):
        return not _is_private(host.strip("[]"))
    return any(suffix in FREE_HOSTING for suffix in _suffixes(host))


def embedded_target(url: str) -> str | None:
    """An absolute web address that an address carries along (an open redirector, a tracker), or None."""
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return None
    rest = parsed.search + parsed.hash
    match = _TARGET_RE.search(rest)
    if match is None:
        return None
    inner = unquote(rest[match.start() :].split("&", 1)[0])
    host, inner_host = parsed.hostname, host_of(inner)
    if not inner_host or registrable_domain(inner_host) == registrable_domain(host):
        return None
    return inner


def delivery_signals(findings: list[Any]) -> tuple[Signal, ...]:
    """Signals from what was found in the message itself (the text of the link against its target).

    Args:
        findings: As kept in ``message_links.findings``.
    """
    signals = []
    for found in findings:
        if not isinstance(found, Mapping) or found.get("code") != "text_mismatch":
            continue  # the others are made again from the URL
        evidence = found.get("evidence")
        if isinstance(evidence, Mapping):
            fields = tuple((str(name), str(value)) for name, value in evidence.items())
            strength = str(evidence.get("strength", "strong"))
            signals.append(Signal("text_mismatch", BY_STRENGTH.get(strength, 20), fields, "delivery"))
    return tuple(signals)


def _from_finding(found: HostFinding, host: str) -> Signal:
    fields = found.fields
    if found.code in ("homograph", "homograph_unnamed", "mixed_script"):
        # The name alone would be read as the one it imitates.
        fields = tuple((name, _with_ascii(value, host) if name == "shown" else value) for name, value in fields)
    weight = BY_CODE.get(found.code, BY_STRENGTH[found.strength])
    if found.code == "ip_host" and _is_private(found.field("address")):
        weight = PRIVATE_IP_WEIGHT
    return Signal(found.code, weight, fields)


_OWN_NETWORKS: Final = tuple(
    map(
        ipaddress.ip_network,
        # Loopback, RFC 1918, link-local, shared address space (RFC 6598), unique local (RFC 4193).
        words(
            "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 100.64.0.0/10 "
            "::1/128 fc00::/7 fe80::/10"
        ),
    )
)


def _is_private(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in _OWN_NETWORKS)


def _about_host(host: str) -> Iterator[Signal]:
    if is_ip(host):
        return
    domain = registrable_domain(host) or host
    service = next((name for name in _suffixes(host) if name in FREE_HOSTING), None)
    if service is not None and service != host:
        yield _signal("free_hosting", 15, service=service)
    if host.count(".") >= _DEEP_LABELS and domain not in CARRIERS:
        yield _signal("many_labels", 15, host=_shown_host(host))


def _about_address(host: str, parsed: ada_url.URL) -> Iterator[Signal]:
    if parsed.port not in _USUAL_PORTS and not (is_ip(host) and _is_private(host.strip("[]"))):
        yield _signal("odd_port", 15, port=parsed.port)
    path = unquote(parsed.pathname)
    name = path.rpartition("/")[2]
    if "." in name and name.rpartition(".")[2].lower() in RUNNABLE:
        yield _signal("download", 35, name=name[-60:])
    asked = next((word for word in _WORD_RE.findall(path.lower()) if word in _SUSPECT_WORDS), None)
    if asked is not None and is_anonymous_host(host):
        yield _signal("suspicious_path", 25, word=asked)
    inner = embedded_target(parsed.href)
    if inner is not None:
        yield _signal("redirector", 5, target=_shown(inner))
    if parsed.protocol == "http:" and not is_ip(host):
        yield _signal("no_encryption", 5)


def _good_name(host: str, encrypted: bool) -> Iterator[Signal]:
    domain = registrable_domain(host)
    if domain is None or not encrypted or domain in CARRIERS or shortener(host) is not None:
        return
    if any(suffix in FREE_HOSTING for suffix in _suffixes(host)):
        return
    owners = OWNERS.get(domain)
    if owners:
        owner = min(owners, key=lambda name: (not domain.startswith(name), name))
        yield Signal("known_good", 0, (("host", host), ("owner", owner.title())), decides=Level.CLEAN)


def _suffixes(host: str) -> Iterator[str]:
    while "." in host:
        yield host
        host = host.partition(".")[2]


def _with_ascii(shown: str, host: str) -> str:
    """A name in foreign letters with its Punycode beside it."""
    labels = host.split(".")[-len(shown.split(".")) :]
    plain = ".".join(labels)
    return shown if plain == shown else f"{shown} ({plain})"


def _shown(url: str) -> str:
    return _shown_host(host_of(url) or url[:80])


def _shown_host(host: str) -> str:
    readable = unicode_host(host)
    return host if readable == host else f"{readable} ({host})"


def _signal(code: str, weight: int, **fields: str) -> Signal:
    return Signal(code, weight, tuple(fields.items()))
