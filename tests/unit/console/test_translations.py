"""Every text of the console is there in German and Japanese, with the same placeholders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from app.kit.i18n import catalogue_path, translator
from app.policy.trace import RULES, STEPS
from app.verdicts.sources.registry import kinds

APP = Path(__file__).resolve().parents[3] / "app"
SPOKEN = {"N_", "Refused", "Conflict", "Forbidden", "_answer"}
CHECKS = {"AccessCheck", "_probe"}
MODULES = [
    *sorted((APP / "console").rglob("*.py")),
    *sorted((APP / "tenants").glob("*.py")),
    *(
        APP / "protection" / f"{name}.py"
        for name in (
            *("onboarding", "choosing", "copying", "roster", "backfill", "quarantine", "offboarding", "swapping"),
            *("retry", "incidents", "mail_alerts", "mail_words"),
        )
    ),
]
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}")

Text = str | tuple[str, str]


def spoken_in(source: str) -> set[str]:
    """Literal texts of a module that a person can meet: marked ones, and the words of errors."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPOKEN | CHECKS:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and " " in argument.value:
                    found.add(argument.value)
                elif isinstance(argument, ast.Constant) and node.func.id == "N_":
                    found.add(str(argument.value))
    return found


def texts() -> set[Text]:
    """All texts of the console."""
    found: set[Text] = set()
    for module in MODULES:
        found |= spoken_in(module.read_text())
    found |= {kind.licence.note for kind in kinds().values()}
    found |= {*STEPS.values(), *RULES.values()}
    for template in sorted((APP / "console" / "templates").glob("*.html")):
        with template.open("rb") as file:
            for _, message, _, _ in extract("jinja2.ext:babel_extract", file, {"_": None, "ngettext": (1, 2)}):
                found.add(message if isinstance(message, str) else (str(message[0]), str(message[1])))
    return found


def check_sentences() -> set[str]:
    """Fixed sentences of the connectors' access checks: translated where the catalogue has them."""
    found: set[str] = set()
    connectors = APP.parent / "connectors"
    for module in (*connectors.glob("*/checks.py"), *connectors.glob("*/attachments.py")):
        found |= spoken_in(module.read_text())
    return found


def catalogue(locale: str) -> Catalog:
    with catalogue_path(locale, "console").open("rb") as file:
        return read_po(file, locale=locale, domain="console", abort_invalid=True)


def test_texts_are_found_in_templates_tables_and_errors() -> None:
    found = texts()
    assert "Protection is on and keeping up" in found
    assert "No threat found" in found
    assert "There is no such role." in found
    assert ("%(n)s mailbox", "%(n)s mailboxes") in found


@pytest.mark.parametrize("locale", ["de", "ja"])
def test_every_text_is_translated(locale: str) -> None:
    known = catalogue(locale)
    missing = [text for text in texts() if not (entry := known.get(text)) or not entry.string or not any(entry.string)]
    assert not missing, sorted(map(str, missing))


@pytest.mark.parametrize("locale", ["de", "ja"])
def test_translations_keep_their_placeholders(locale: str) -> None:
    for entry in catalogue(locale):
        if not entry.id:
            continue
        sources = entry.id if isinstance(entry.id, tuple) else (entry.id,)
        strings = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        expected = set(PLACEHOLDER.findall(" ".join(sources)))
        for string in strings:
            assert set(PLACEHOLDER.findall(string)) == expected, entry.id


@pytest.mark.parametrize("locale", ["de", "ja"])
def test_no_translation_is_left_over(locale: str) -> None:
    used = {text if isinstance(text, str) else text[0] for text in texts()}
    kept = {entry.id if isinstance(entry.id, str) else entry.id[0] for entry in catalogue(locale) if entry.id}
    used |= check_sentences()
    assert kept <= used, sorted(kept - used)


@pytest.mark.parametrize("locale", ["de", "ja"])
def test_no_page_calls_a_link_safe(locale: str) -> None:
    words = {"de": ("sicher ", "ungefährlich"), "ja": ("安全です",)}[locale]
    for entry in catalogue(locale):
        strings = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        assert not any(word in f"{string.lower()} " for word in words for string in strings), entry.id


def test_counts_take_the_right_form() -> None:
    german = translator("de", "console")
    assert german.ngettext("%(n)s mailbox", "%(n)s mailboxes", 1) == "%(n)s Postfach"
    assert german.ngettext("%(n)s mailbox", "%(n)s mailboxes", 5) == "%(n)s Postfächer"
