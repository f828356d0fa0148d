"""An audit line in words: acts, states, times, and what changed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from app.console import words
from app.console.audit_words import ACTS
from app.console.facts import act_in_words, facts_in_words

APP = Path(__file__).resolve().parents[3] / "app"


def name(table: str, key: object) -> str:
    return words.TABLES[table][str(key)]


def shown(action: str, **detail: object) -> dict[str, str]:
    return {label: str(value) for label, value in facts_in_words(action, detail, name)}


def test_failed_checks_have_their_names() -> None:
    assert shown("tenant.checked", failed=["delegation", "push"]) == {
        "Failed": "<bdi>Domain-wide delegation</bdi>, <bdi>Notifications of new mail</bdi>"
    }


def test_nothing_failed_is_said() -> None:
    assert "none" in shown("tenant.checked", failed=[])["Failed"]


def test_times_are_time_elements_and_yes_and_no_are_words() -> None:
    found = shown("domain.protected", dry_run=False, since="2026-11-21T21:38:00+00:00", mailboxes=1234)
    assert found["Since"].startswith('<time datetime="2026-11-21T21:38:00.000Z"')
    assert (found["Dry run"], found["Mailboxes"]) == ("no", "1,234")


def test_states_before_and_after_are_those_of_the_act() -> None:
    assert shown("person.role", before="analyst", after="domain_admin") == {
        "Before": "<bdi>Analyst</bdi>",
        "After": "<bdi>Domain administrator</bdi>",
    }
    assert shown("tenant.paused", before="active") == {"Before": "<bdi>Active</bdi>"}


def test_of_two_whole_states_only_the_difference_is_shown() -> None:
    found = shown(
        "delivery.changed", before={"hxxp": True, "tag": "a"}, after={"hxxp": False, "tag": "a", "brackets": True}
    )
    assert found == {"hxxp in place of http": "yes → no"}  # brackets are the default


def test_what_was_chosen_is_said_as_the_settings_say_it_and_defaults_are_no_absence() -> None:
    assert shown("delivery.changed", before={}, after={"qr": "deface", "tracking_patterns": ["a.*"]}) == {
        "QR codes in pictures": "<bdi>Check and report</bdi> → <bdi>Make unreadable</bdi>",
        "Tracking parameters of your own": '<span class="none">none</span> → <bdi>a.*</bdi>',
    }
    assert shown("tenant.settings", before={"malicious": "block"}, after={"malicious": "lock"}) == {
        "Malicious links at a click": "<bdi>Block</bdi> → <bdi>Hold until released</bdi>"
    }


def test_hostile_values_are_escaped_and_shown_by_number() -> None:
    assert shown("list.added", note="<b>\u202e") == {"Note": "<bdi>&lt;b&gt;⟨U+202E⟩</bdi>"}


def test_unknown_acts_and_keys_are_shown_in_their_own_words() -> None:
    assert act_in_words("sandbox.run_started", name) == "sandbox: run started"
    assert shown("sandbox.run_started", page_count=2) == {"page count": "2"}


@pytest.mark.parametrize("module", sorted((APP / "protection").glob("*.py")) + sorted((APP / "tenants").glob("*.py")))
def test_every_act_that_is_recorded_by_its_name_has_words(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "record":
            acts = [part.value for part in ast.walk(node.args[2]) if isinstance(part, ast.Constant)]
            for act in acts:
                if isinstance(act, str) and not act.endswith("."):
                    assert act in ACTS, act
