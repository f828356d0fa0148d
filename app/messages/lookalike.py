"""Hosts that imitate other hosts.

A host is compared with the tenant's own domains and with a curated list of brands
(:mod:`app.messages.brands`): near spellings, letters of other alphabets, the name in the wrong place
(``paypal.com.evil.example``), the name with a lure beside it (``paypal-login.example``), and the name under
another ending. Made to be quiet: what good mail does (content networks, software services that carry a
customer's name, a brand's own many domains) is no finding.

The comparison is pure and its results are cached by host; a host seen before costs a dictionary lookup.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from app.messages import confusables
from app.messages.brands import BRANDS, OWNERS
from app.messages.host_findings import HostFinding, finding
from app.messages.hosts import (
    host_of,
    ip_from_host,
    is_ip,
    public_suffix,
    registrable_domain,
    unicode_host,
    user_information,
    words,
    written_host,
)
from app.messages.shorteners import shortener_finding

LURES: Final[frozenset[str]] = words("""
    access account accounts activate activation alert alerts auth authenticate authentication banking
    billing cancel center claim client confirm confirmation customer customers delivery document
    documents help helpdesk identity id info invoice limited lock locked log login logon mfa myaccount
    notice notification office online parcel password pay payment payments portal recover recovery
    refund renew renewal reset restore review reward rewards safe safety secure secured security service
    services sign signin signon sso suspended support team tracking unlock unusual update updates
    validate validation verification verified verify wallet webmail
""")
"""Words that imitations put beside a name."""

CARRIERS: Final[frozenset[str]] = words("""
    1e100.net akadns.net akamai.net akamaiedge.net akamaihd.net akamaized.net ampproject.org
    amazonaws.com atlassian.net auth0.com azureedge.net azurefd.net azurewebsites.net b2clogin.com
    bamboohr.com box.com cdn77.org cloudapp.net cloudflare.net cloudfront.net custhelp.com edgekey.net
    edgesuite.net fastly.net force.com freshdesk.com g.co google.com greenhouse.io hubspot.com
    hubspotlinks.com impervadns.net incapdns.net lever.co list-manage.com mktdns.com microsoft.com
    mimecast.com myshopify.com myworkdayjobs.com netsuite.com office.com okta.com onmicrosoft.com
    outlook.com pantheonsite.io personio.de pphosted.com salesforce.com sendgrid.net service-now.com
    sharepoint.com slack.com statuspage.io successfactors.com successfactors.eu surveymonkey.com
    translate.goog trustpilot.com uservoice.com wikipedia.org windows.net wordpress.com workday.com
    workable.com zendesk.com zoom.us
""")
"""Registrable domains whose hosts carry their customers' names as a matter of course."""

_CYRILLIC_SUFFIXES: Final = frozenset({"ru", "su", "ua", "by", "bg", "rs", "mk", "kz", "kg", "mn", "tj", "uz", "me"})
_GREEK_SUFFIXES: Final = frozenset({"gr", "cy", "eu"})
_MIN_FUZZY: Final = 6
_MIN_OWN_FUZZY: Final = 5
_TWO_EDITS_FROM: Final = 11
_MAX_LABELS: Final = 24

About = Literal["own", "brand"]


@dataclass(frozen=True, slots=True)
class _Target:
    """A name that may be imitated."""

    name: str
    suffix: str
    domain: str
    about: About
    fuzzy: bool
    domains: frozenset[str]

    @property
    def shown(self) -> str:
        """The domain as people read it."""
        return unicode_host(self.domain)


class _Index:
    """The targets of one set of own domains, arranged so that a host is looked up, not compared with each."""

    def __init__(self, own_domains: frozenset[str]) -> None:
        self.own: set[str] = set()
        self._by_name: dict[str, list[_Target]] = {}
        self._by_skeleton: dict[str, list[_Target]] = {}
        self._by_deletion: dict[str, list[_Target]] = {}
        for given in sorted(own_domains):
            host = host_of(f"https://{given.strip().strip('.')}/")
            domain = host and (registrable_domain(host) or host)
            if not domain or is_ip(domain) or domain in self.own:
                continue
            self.own.add(domain)
            name, _, suffix = domain.partition(".")
            self._add(_Target(name, suffix, domain, "own", len(name) >= _MIN_OWN_FUZZY, frozenset({domain})))
        for brand in BRANDS:
            domain = brand.domains[0]
            fuzzy = brand.fuzzy and len(brand.name) >= _MIN_FUZZY
            suffix = domain.partition(".")[2]
            self._add(_Target(brand.name, suffix, domain, "brand", fuzzy, frozenset(brand.domains)))

    def _add(self, target: _Target) -> None:
        name = unicode_host(target.name)
        self._by_name.setdefault(target.name, []).append(target)
        skeleton = confusables.ascii_skeleton(confusables.latin_skeleton(name))
        self._by_skeleton.setdefault(skeleton, []).append(target)
        if target.fuzzy:
            for shorter in _deletions(name, _edits_allowed(name)):
                self._by_deletion.setdefault(shorter, []).append(target)

    def named(self, name: str) -> list[_Target]:
        return self._by_name.get(name, [])

    def seen_as(self, skeleton: str) -> list[_Target]:
        return self._by_skeleton.get(skeleton, [])

    def near(self, label: str) -> list[_Target]:
        """Return the fuzzy targets within their allowed edit distance of a label, not the label itself."""
        if not _MIN_OWN_FUZZY - 1 <= len(label) <= 40:
            return []
        found: dict[int, _Target] = {}
        for shorter in _deletions(label, _edits_allowed(label + "x")):
            for target in self._by_deletion.get(shorter, ()):
                found[id(target)] = target
        return [
            target
            for target in found.values()
            if 0 < _distance(label, target.name) <= _edits_allowed(target.name)
            and (label[0] == target.name[0] or len(target.name) >= 8)
            and not _is_inflection(label, target.name)
        ]


@lru_cache(maxsize=512)
def _index(own_domains: frozenset[str]) -> _Index:
    return _Index(own_domains)


def inspect_url(url: str, own_domains: frozenset[str] = frozenset()) -> tuple[HostFinding, ...]:
    """Say what there is to say about where an absolute address leads.

    Args:
        url: An absolute ``http`` or ``https`` address.
        own_domains: The tenant's own domains. Pass the same object again and again: results are
            cached by it.

    Returns:
        Findings, most telling first; empty for an ordinary host and for an address that is not valid.
    """
    host = host_of(url)
    if host is None:
        return ()
    findings = inspect_host(host, own_domains)
    if is_ip(host):
        address = ip_from_host(host, written_host(url))
        if address is not None:
            code = "ip_host_disguised" if address.disguised else "ip_host"
            findings += (
                finding(
                    code,
                    "strong" if address.disguised else "weak",
                    address=address.address,
                    written=address.written,
                ),
            )
    if "@" in url:
        user = user_information(url)
        name = user.partition(":")[0]
        if "." in name:
            findings += (finding("user_information", "strong", shown=name[:80], host=host),)
    return findings


@lru_cache(maxsize=65_536)
def inspect_host(host: str, own_domains: frozenset[str] = frozenset()) -> tuple[HostFinding, ...]:
    """Say what there is to say about a host name: shortener, foreign letters, imitation.

    Args:
        host: A host as :func:`app.messages.hosts.host_of` returns it.
        own_domains: The tenant's own domains, which are never findings themselves.

    Returns:
        Findings, most telling first.
    """
    if is_ip(host) or host.count(".") > _MAX_LABELS * 4:
        return ()
    index = _index(own_domains)
    domain = registrable_domain(host)
    if domain is None or domain in index.own or domain in OWNERS:
        short = shortener_finding(host)
        return () if short is None else (short,)
    shown = unicode_host(host)
    imitation = _imitation(index, host, shown, domain)
    findings = [] if imitation is None else [imitation]
    if shown != host:
        findings += _foreign_letters(host, shown, imitation is not None)
    short = shortener_finding(host)
    if short is not None:
        findings.append(short)
    return tuple(findings)


def _foreign_letters(host: str, shown: str, imitates: bool) -> list[HostFinding]:
    """Findings about the alphabets of an internationalised host."""
    findings: list[HostFinding] = []
    for label in shown.split("."):
        if label.isascii():
            continue
        scripts = confusables.scripts_of(label)
        if confusables.is_suspicious_mix(scripts):
            findings.append(finding("mixed_script", "strong", shown=shown, scripts=confusables.script_names(scripts)))
            break
        if not imitates and "LATIN" not in scripts and confusables.is_whole_script_confusable(label):
            suffix = host.rpartition(".")[2]
            if not suffix.startswith("xn--") and suffix not in _CYRILLIC_SUFFIXES | _GREEK_SUFFIXES:
                findings.append(
                    finding(
                        "homograph_unnamed",
                        "strong",
                        shown=shown,
                        scripts=confusables.script_names(scripts),
                        looks_like=confusables.latin_skeleton(label),
                    )
                )
                break
    findings.append(finding("punycode", "note", shown=shown, host=host))
    return findings


def _imitation(index: _Index, host: str, shown: str, domain: str) -> HostFinding | None:
    """Return the strongest imitation in a host whose registrable domain belongs to no target."""
    name = domain.partition(".")[0]
    shown_name = unicode_host(name)
    return (
        _spelling(index, shown_name, domain)
        or _other_suffix(index, name, domain)
        or _wrong_place(index, host, shown, domain)
        or _affixed(index, shown_name, domain)
    )


def _spelling(index: _Index, name: str, domain: str) -> HostFinding | None:
    """Same look or nearly the same spelling, in the registrable label."""
    latin = confusables.latin_skeleton(name)
    shown = unicode_host(domain)
    if latin != name:
        for target in index.named(latin):
            return finding("homograph", "strong", target.about, shown=shown, target=target.shown)
    for target in index.seen_as(confusables.ascii_skeleton(latin)):
        if target.name != name and len(name) >= 4:
            code = "lookalike" if name.isascii() else "homograph"
            return finding(code, "strong", target.about, shown=shown, target=target.shown)
    for target in index.near(latin):
        return finding(
            "lookalike",
            "strong" if len(target.name) >= 7 else "weak",
            target.about,
            shown=shown,
            target=target.shown,
        )
    return None


def _other_suffix(index: _Index, name: str, domain: str) -> HostFinding | None:
    """A target's very name under another public suffix."""
    suffix = domain.partition(".")[2]
    country = len(suffix.rpartition(".")[2]) == 2
    for target in index.named(name):
        if target.about == "own":
            strength: Literal["weak", "strong"] = "weak" if country or len(name) < 6 else "strong"
            return finding("other_suffix", strength, "own", domain=domain, target=target.shown)
        if target.fuzzy and not country and "." not in suffix:
            return finding("other_suffix", "weak", "brand", domain=domain, target=target.shown)
    return None


def _wrong_place(index: _Index, host: str, shown: str, domain: str) -> HostFinding | None:
    """A target's domain, or its name with a lure, in front of somebody else's registrable domain."""
    if public_suffix(host) is None or domain in CARRIERS or host == domain:
        return None
    if ".".join(domain.rsplit(".", 2)[-2:]) in CARRIERS:  # a private suffix of a carrier
        return None
    labels = confusables.latin_skeleton(shown[: -len(unicode_host(domain)) - 1]).split(".")[-_MAX_LABELS:]
    tokens = [token for label in labels for token in label.split("-")]
    everything = {*tokens, *domain.partition(".")[0].split("-")}
    for position, token in enumerate(tokens):
        for target in index.named(token):
            rest = target.suffix.split(".")
            if tokens[position + 1 : position + 1 + len(rest)] == rest:
                return finding("embedded", "strong", target.about, target=target.shown, domain=domain)
            if target.fuzzy and everything & LURES:
                return finding("embedded", "weak", target.about, target=target.name, domain=domain)
    for position, label in enumerate(labels):
        for target in index.named(label) if "-" in label else ():
            rest = target.suffix.split(".")
            if labels[position + 1 : position + 1 + len(rest)] == rest:
                return finding("embedded", "strong", target.about, target=target.shown, domain=domain)
    return None


def _affixed(index: _Index, label: str, domain: str) -> HostFinding | None:
    """A target's name with a lure beside it, in the registrable label (``paypal-login``, ``mypaypal``)."""
    latin = confusables.latin_skeleton(label)
    parts = latin.split("-")
    if len(parts) > 1:
        for start in range(len(parts)):
            for stop in range(start + 1, len(parts) + 1):
                rest = parts[:start] + parts[stop:]
                if not rest or not LURES.intersection(rest):
                    continue
                name = "-".join(parts[start:stop])
                for target in index.named(name) or index.named(name.removeprefix("my")):
                    if len(target.name) >= 4 or target.about == "brand":
                        return _affix_finding(target, "-".join(rest), domain)
    for cut in range(4, len(latin) - 1):
        head, tail = latin[:cut].rstrip("-"), latin[cut:].lstrip("-")
        if tail in LURES and len(tail) > 2:
            for target in index.named(head):
                if target.fuzzy:
                    return _affix_finding(target, tail, domain)
        if head in LURES and len(head) > 3:
            for target in index.named(tail):
                if target.fuzzy:
                    return _affix_finding(target, head, domain)
    return None


def _affix_finding(target: _Target, added: str, domain: str) -> HostFinding:
    return finding(
        "affixed",
        "strong" if target.fuzzy else "weak",
        target.about,
        domain=unicode_host(domain),
        added=added[:60],
        target=target.shown,
    )


def _edits_allowed(name: str) -> int:
    return 2 if len(name) >= _TWO_EDITS_FROM else 1


def _is_inflection(label: str, name: str) -> bool:
    """Whether a label is the name with a plural or genitive s, or a number at its end."""
    longer, shorter = (label, name) if len(label) > len(name) else (name, label)
    return longer.startswith(shorter) and (longer[len(shorter) :] in ("s", "es") or longer[len(shorter) :].isdigit())


def _deletions(text: str, depth: int) -> set[str]:
    """Return a text and what is left of it when up to ``depth`` characters are taken out."""
    reached = {text}
    edge = {text}
    for _ in range(depth):
        edge = {item[:i] + item[i + 1 :] for item in edge for i in range(len(item))}
        reached |= edge
    return reached


def _distance(first: str, second: str) -> int:
    """Optimal string alignment distance: insert, delete, replace, swap neighbours."""
    before: list[int] = []
    previous = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        current = [i]
        for j, right in enumerate(second, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (left != right))
            if before and i > 1 and j > 1 and left == second[j - 2] and first[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]
