from __future__ import annotations

import pytest

from app.kit.i18n import LOCALES, negotiate, translator


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "en"),
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("fr;q=0.9, ja;q=0.5", "ja"),
        ("en;q=0.2, JA", "ja"),
        ("de;q=0, en;q=0.1", "en"),
        ("de;q=0", "en"),
        ("*", "en"),
        ("\x00;;;,,,de", "de"),
        ("x" * 100_000, "en"),
    ],
)
def test_the_best_language_of_the_header_is_chosen(header: str | None, expected: str) -> None:
    assert negotiate(header) == expected


def test_the_default_is_used_where_nothing_fits() -> None:
    assert negotiate("fr", default="de") == "de"


@pytest.mark.parametrize("locale", ["de-DE", "de_CH", "DE"])
def test_regional_tags_use_their_language(locale: str) -> None:
    assert translator(locale).locale == "de"


@pytest.mark.parametrize("locale", [*LOCALES, "xx", "../../etc"])
def test_an_unknown_text_stays_english(locale: str) -> None:
    words = translator(locale, "gateway")
    assert words.gettext("no such text") == "no such text"
    assert words.ngettext("one", "many", 2) in ("one", "many")
    assert words.gettext("") == ""


def test_an_unknown_domain_is_english() -> None:
    assert translator("ja", "nowhere").gettext("Go back") == "Go back"
