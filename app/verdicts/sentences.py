"""The one table of evidence sentences: what each signal means, in words a reader understands.

English is the source text; the catalogue ``gateway`` holds German and Japanese. Fields are hostile text
(hosts, words of a URL): they are filled in after translation and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from app.messages.host_findings import TEMPLATES

_OWN: Final[dict[str, str]] = {
    "listed_malicious": "The address {entry} is on a list of dangerous sites ({list}).",
    "listed_suspicious": "The address {entry} is on a list of doubtful sites ({list}).",
    "listed_malicious_since": "The address {entry} is on a list of dangerous sites ({list}, since {since}).",
    "listed_suspicious_since": "The address {entry} is on a list of doubtful sites ({list}, since {since}).",
    "known_good": "The site {host} belongs to {owner}.",
    "wrapped": "The link leads through {wrapper} to {host}.",
    "wrapped_opaque": "The link leads through {wrapper}, which does not show where it ends.",
    "not_web": "The address is not one of a web page.",
    "unreadable": "The address cannot be read.",
    "odd_port": "The site is asked on the unusual port {port}.",
    "free_hosting": "The page lies on {service}, where anybody can put pages without being known.",
    "suspicious_path": "The address asks for “{word}” on a site that is not known for it.",
    "many_labels": "The site's name is made of many parts ({host}), which hides whose it is.",
    "redirector": "The address carries another address to go on to: {target}.",
    "download": "The address leads to a file that can run programs ({name}).",
    "no_encryption": "The page is not encrypted, so others could read or change it.",
    "young": "The site's name was registered on {date}.",
    "young_today": "The site's name is new: {site} was first seen today ({date}, {list}).",
    "young_yesterday": "The site's name is new: {site} was first seen yesterday ({date}, {list}).",
    "young_days": "The site's name is new: {site} was first seen {days} days ago ({date}, {list}).",
    "reported_phishing": "The service {list} warns that {entry} may be a deceptive page that wants passwords or money.",
    "reported_malware": "The service {list} warns that {entry} may spread malicious programs.",
    "reported_unwanted": "The service {list} warns that {entry} may offer unwanted programs.",
    "reported_botnet": "The service {list} warns that {entry} may control infected computers.",
    "reported_spam": "The service {list} names {entry} as a site that spam leads to.",
    "reported_abused": "The service {list} names {entry} as an honest site that others misuse.",
    "not_asked": "The service {list} could not be asked.",
    "login_page": "The page asks for a password, but it does not belong to {brand}.",
    "login_on_free_host": "The page asks for a password on {host}, where anybody can put pages without being known.",
    "password_elsewhere": "The page would send the password to another site ({host}).",
    "password_in_clear": "The page would send the password unencrypted.",
    "asks_password": "The page asks for a password.",
    "hidden_form": "The page hides how it is made.",
    "cannot_see_gate": "The page could not be checked: it first asks for proof that a person is there.",
    "cannot_see_script": "The page could not be checked: it shows itself only to a browser that runs its scripts.",
    "cannot_see_error": "The page could not be checked: it did not answer as it should.",
    "leads_inside": "The link goes on into a private network.",
    "single_use": "The link looks like one that works only once, so it was judged without being opened.",
    "redirects": "The link goes on to {host}.",
    "too_many_redirects": "The link goes on more often than is allowed.",
}

SENTENCES: Final[Mapping[str, str]] = MappingProxyType({**TEMPLATES, **_OWN})
"""Signal code -> English sentence with named fields."""

SOURCES: Final = ("local list",)
"""Names of sources that are words of ours; all others are the names of services and of the operator's lists."""

_MAX_FIELD = 120


def sentence(code: str, fields: Mapping[str, Any], gettext: Callable[[str], str] = str) -> str:
    """The evidence in words.

    Args:
        code: A key of :data:`SENTENCES`; an unknown one gives the code itself, so that evidence kept by
            a later version is never hidden.
        fields: Values; longer ones are cut at 120 characters, control characters become spaces.
        gettext: Translation of the template.
    """
    template = SENTENCES.get(code)
    if template is None:
        return code
    values = {name: readable(str(value)) for name, value in fields.items()}
    if values.get("list") in SOURCES:
        values["list"] = gettext(values["list"])
    try:
        return gettext(template).format_map(values)
    except (KeyError, IndexError, ValueError):
        return code


def readable(text: str, limit: int = _MAX_FIELD) -> str:
    """Text fit to be shown: nothing that controls a terminal or turns the writing direction, cut to length."""
    kept = "".join(character if character.isprintable() else " " for character in text)
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
