"""What pages say where Google's services are why somebody is warned, and only there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.gateway.pages import render
from app.gateway.views import View, blocked, evidence, explained, locked, warning
from app.kit.i18n import LOCALES, translator
from app.verdicts.advisories import Advisory, advisories
from app.verdicts.scoring import Level, Signal, Verdict, score
from app.verdicts.sources.registry import make_signal_source
from app.verdicts.sources.service import new_config

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEYS = {"continue": "k", "harmful": "k", "release": "k", "mistake": "k"}


def reported(code: str, advisory: str, name: str = "Google Safe Browsing") -> Signal:
    fields = (("entry", "evil.example/"), ("list", name), *((("advisory", advisory),) if advisory else ()))
    return Signal(code, 100, fields, name, Level.MALICIOUS)


def judged(*signals: Signal) -> Verdict:
    return score(list(signals), final_url="https://evil.example/", now=NOW)


def pages(verdict: Verdict, locale: str = "en") -> list[View]:
    words = translator(locale, "gateway")
    return [
        warning(verdict, words, KEYS, "verdict:suspicious"),
        blocked(verdict, words, "Contoso", KEYS, "verdict:malicious", listed=False),
        locked(verdict, words, KEYS, "verdict:malicious"),
        explained("https://evil.example/", verdict, words, "block", "verdict:malicious"),
    ]


@pytest.mark.parametrize(
    ("code", "advisory", "page", "more"),
    [
        ("reported_phishing", "safe_browsing", "developers.google.com/safe-browsing/v4/advisory", "antiphishing.org"),
        ("reported_malware", "safe_browsing", "developers.google.com/safe-browsing/v4/advisory", "security/malware"),
        ("reported_unwanted", "web_risk", "cloud.google.com/web-risk/docs/advisory", "unwanted-software-policy"),
    ],
)
def test_a_warning_on_googles_word_names_google_and_says_that_it_may_be_wrong(
    code: str, advisory: str, page: str, more: str
) -> None:
    for view in pages(judged(reported(code, advisory))):
        html = render(view, translator("en", "gateway")).body.decode()
        assert f'href="https://{page}"' in html, view.page
        assert "Advisory provided by Google</a>" in html
        assert "cannot guarantee that its information is complete" in html
        assert more in html
        assert "may" in evidence(judged(reported(code, advisory)), translator("en", "gateway"))[0]


def test_no_other_warning_names_google() -> None:
    for view in pages(judged(reported("reported_phishing", "", "Spamhaus DBL"))):
        assert view.advisories == ()
        assert "Google" not in render(view, translator("en", "gateway")).body.decode()


def test_each_advisory_is_named_once() -> None:
    twice = [reported("reported_phishing", "safe_browsing")] * 2
    assert advisories([*twice, reported("reported_malware", "unknown")]) == (
        Advisory("https://developers.google.com/safe-browsing/v4/advisory", "https://www.antiphishing.org/"),
    )


@pytest.mark.parametrize("locale", LOCALES)
def test_the_advisory_is_said_in_every_language(locale: str) -> None:
    words = translator(locale, "gateway")
    said = words.gettext("Advisory provided by Google")
    assert (said == "Advisory provided by Google") is (locale == "en")
    view = pages(judged(reported("reported_phishing", "web_risk")), locale)[0]
    assert said in render(view, words).body.decode()


@pytest.mark.parametrize(
    ("kind", "advisory"),
    [("safe_browsing", "safe_browsing"), ("safe_browsing_v4", "safe_browsing"), ("web_risk", "web_risk")],
)
def test_the_services_of_google_are_named_as_such(kind: str, advisory: str) -> None:
    source = make_signal_source(new_config(kind, "Any name", secret_ref="env:KEY"), "key")
    assert getattr(source, "advisory", None) == advisory
