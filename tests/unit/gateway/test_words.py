"""Every sentence of the gateway and of the evidence exists in every language, with the same fields."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from app.gateway import views
from app.kit.i18n import LOCALES, catalogue_path, translator
from app.verdicts.scoring import score
from app.verdicts.sentences import SENTENCES, SOURCES, sentence

GATEWAY = Path("app/gateway")


def sources() -> set[str]:
    found = {*SENTENCES.values(), *SOURCES}
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


@pytest.mark.parametrize(("locale", "name"), [("en", "local list"), ("de", "lokale Liste"), ("ja", "ローカルリスト")])
def test_the_list_of_the_installation_is_named_in_the_readers_language(locale: str, name: str) -> None:
    fields = {"entry": "evil.example", "list": "local list"}
    said = sentence("listed_malicious", fields, translator(locale, "gateway").gettext)
    assert name in said
    other = sentence("listed_malicious", fields | {"list": "URLhaus"}, translator(locale, "gateway").gettext)
    assert "URLhaus" in other


@pytest.mark.parametrize(
    ("locale", "why"),
    [
        ("en", "Your organisation's own list holds links to files.held.example."),
        ("de", "Die eigene Liste Ihrer Organisation hält Links zu files.held.example zurück."),
        ("ja", "お客様の組織のリストにより、files.held.example へのリンクは保留されています。"),
    ],
)
def test_the_held_page_says_whose_list_holds_the_link(locale: str, why: str) -> None:
    verdict = score((), final_url="https://files.held.example/a", now=datetime(2026, 11, 21, tzinfo=UTC))
    words = translator(locale, "gateway")
    assert views.locked(verdict, words, {}, "list:1 lock held.example").reasons[0] == why
    # What a level holds is no list's doing.
    assert why not in views.locked(verdict, words, {}, "verdict:unknown").reasons
