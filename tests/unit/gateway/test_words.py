"""Every sentence of the gateway and of the evidence exists in every language, with the same fields."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from app.kit.i18n import LOCALES, catalogue_path
from app.verdicts.sentences import SENTENCES

GATEWAY = Path("app/gateway")


def sources() -> set[str]:
    found = set(SENTENCES.values())
    for path in GATEWAY.glob("*.py"):
        with path.open("rb") as file:
            found |= {str(message) for _, message, _, _ in extract("python", file, {"_": None, "gettext": None})}
    for path in (GATEWAY / "templates").glob("*.html"):
        with path.open("rb") as file:
            found |= {str(message) for _, message, _, _ in extract("jinja2.ext:babel_extract", file, {"_": None})}
    return found


def fields(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("locale", [locale for locale in LOCALES if locale != "en"])
def test_nothing_is_left_untranslated(locale: str) -> None:
    with catalogue_path(locale, "gateway").open("rb") as file:
        catalogue = read_po(file, locale=locale)
    translated = {str(message.id): str(message.string) for message in catalogue if message.id}
    wanted = sources()
    assert len(wanted) > 80
    assert wanted - {source for source, text in translated.items() if text} == set()
    assert set(translated) - wanted == set()
    for source, text in translated.items():
        assert set(fields(source)) == set(fields(text)), source
