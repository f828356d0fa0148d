"""What can be said about a link's host, in words.

A finding carries a code, how much it means, and the values its sentence needs. The sentences are
templates with named fields, kept in one table, so that another language is another table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Strength = Literal["note", "weak", "strong"]

TEMPLATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ip_host": "The link goes to the numeric address {address} instead of to a name.",
        "ip_host_disguised": "The link goes to the numeric address {address}, spelt as “{written}” "
        "so that it is not recognised as one.",
        "user_information": "The address begins with “{shown}” to look like another site, but it leads to {host}.",
        "shortener": "The link was made with the URL shortener {service}, so where it ends cannot be seen.",
        "punycode": "The site's name {shown} is written with letters beyond a to z (in full: {host}).",
        "mixed_script": "The site's name {shown} mixes letters of different alphabets ({scripts}) that look alike.",
        "homograph": "The site's name {shown} uses foreign letters to look like {target}, which it is not.",
        "homograph_unnamed": "The site's name {shown} is made only of {scripts} letters "
        "that look like Latin ones (“{looks_like}”).",
        "lookalike": "The site's name {shown} is spelt almost like {target}, which it is not.",
        "embedded": "The address contains “{target}”, but it leads to {domain}.",
        "other_suffix": "The site {domain} has the name of {target} under another ending.",
        "affixed": "The site {domain} puts “{added}” beside the name of {target}, to which it does not belong.",
        "text_mismatch": "The text shows {shown}, but the link leads to {host}.",
    }
)
"""English sentence of every finding code; the fields in braces are in :attr:`HostFinding.fields`."""


@dataclass(frozen=True, slots=True)
class HostFinding:
    """One thing worth knowing about where a link leads.

    Attributes:
        code: A key of :data:`TEMPLATES`; stable, for policies, reports and translations.
        strength: ``note`` (common in good mail), ``weak`` (tells something with other signs) or
            ``strong`` (rare in good mail).
        fields: Names and values for the sentence.
        about: What is imitated: ``own`` for the organisation's own domains, ``brand`` for a well-known
            brand, ``""`` where nothing is.
    """

    code: str
    strength: Strength
    fields: tuple[tuple[str, str], ...]
    about: Literal["", "own", "brand"] = ""

    @property
    def message(self) -> str:
        """The finding as one plain English sentence."""
        return TEMPLATES[self.code].format_map(dict(self.fields))

    def field(self, name: str) -> str:
        """Return one named value, or ``""``."""
        return dict(self.fields).get(name, "")


def finding(code: str, strength: Strength, about: Literal["", "own", "brand"] = "", **fields: str) -> HostFinding:
    """Build a finding.

    Raises:
        KeyError: For a code without a sentence, or a sentence whose field is not given.
    """
    made = HostFinding(code, strength, tuple(fields.items()), about)
    TEMPLATES[code].format_map(fields)
    return made
