"""Words in the reader's language: gettext catalogues, read from their ``.po`` text at run time.

One catalogue per language and domain lies in ``app/locale/<language>/<domain>.po``; the source text is
English, so English needs no catalogue. They are compiled in memory with Babel
(https://babel.pocoo.org/en/latest/api/messages/pofile.html), so that no binary is part of the project.
Whatever a catalogue does not have stays English.
"""

from __future__ import annotations

import gettext as stdlib_gettext
import io
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

LOCALES: Final = ("en", "de", "ja")
"""Languages there are; the first is the source."""

DEFAULT_LOCALE: Final = "en"
_LOCALE_DIR = Path(__file__).resolve().parent.parent / "locale"
_RANGE_RE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?\Z")
_MAX_RANGES = 20


def N_(text: str) -> str:
    """Mark a text for the catalogue without translating it yet."""
    return text


class Translator:
    """One language of one domain.

    Attributes:
        locale: The language, one of :data:`LOCALES`; fit for the ``lang`` attribute of HTML.
    """

    def __init__(self, locale: str, catalogue: stdlib_gettext.NullTranslations) -> None:
        self.locale = locale
        self._catalogue = catalogue

    def gettext(self, message: str) -> str:
        """The message in this language; English where it is not translated."""
        # An empty message id is the catalogue's header.
        return self._catalogue.gettext(message) if message else ""

    def ngettext(self, singular: str, plural: str, n: int) -> str:
        """The form for a count; the caller fills the count in."""
        return self._catalogue.ngettext(singular, plural, n)

    def pgettext(self, context: str, message: str) -> str:
        """The message where one English text needs several translations."""
        return self._catalogue.pgettext(context, message)


@lru_cache(maxsize=64)
def translator(locale: str, domain: str = "gateway") -> Translator:
    """The words of one domain in a language.

    Args:
        locale: A language tag; an unknown one gives English.
        domain: Name of the catalogue (``gateway``, ``console``).

    Returns:
        A translator, shared within the process.
    """
    language = locale.replace("_", "-").partition("-")[0].lower()
    if language not in LOCALES:
        language = DEFAULT_LOCALE
    return Translator(language, _catalogue(language, domain))


def catalogue_path(locale: str, domain: str) -> Path:
    """Where the catalogue of a language and domain lies."""
    return _LOCALE_DIR / locale / f"{domain}.po"


def _catalogue(language: str, domain: str) -> stdlib_gettext.NullTranslations:
    path = catalogue_path(language, domain)
    if language == DEFAULT_LOCALE or not path.exists():
        return stdlib_gettext.NullTranslations()
    # Babel is needed for this one step; the English gateway starts without it.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with path.open("rb") as source:
        catalogue = read_po(source, locale=language, domain=domain)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return stdlib_gettext.GNUTranslations(compiled)


def negotiate(accept_language: str | None, default: str = DEFAULT_LOCALE) -> str:
    """The best language for an ``Accept-Language`` header (RFC 9110 section 12.5.4).

    Args:
        accept_language: The header's value; None or nonsense gives the default.
        default: One of :data:`LOCALES`.

    Returns:
        One of :data:`LOCALES`.
    """
    best, best_weight = default, 0.0
    for part in (accept_language or "")[:1000].split(",")[:_MAX_RANGES]:
        match = _RANGE_RE.match(part)
        if match is None:
            continue
        weight = float(match[2]) if match[2] is not None else 1.0
        language = default if match[1] == "*" else match[1].partition("-")[0].lower()
        if language in LOCALES and weight > best_weight:
            best, best_weight = language, min(weight, 1.0)
    return best
