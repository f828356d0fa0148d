from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.heuristics import url_signals
from app.verdicts.landing import page_signals
from app.verdicts.scoring import Level, score
from app.verdicts.single_use import looks_single_use
from tests.unit.verdicts.landing_pages import PAGES, LandingPage

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OWN = frozenset({"contoso.example"})


def level(page: LandingPage) -> Level:
    signals = (*url_signals(page.url, OWN), *page_signals(page.html.encode(), page.url, OWN))
    return score(signals, final_url=page.url, now=NOW).level


def of_kind(kind: str) -> list[LandingPage]:
    return [page for page in PAGES if page.kind == kind]


def test_the_set_has_sixty_pages_and_more() -> None:
    assert len(PAGES) >= 60
    assert len({page.name for page in PAGES}) == len(PAGES)


@pytest.mark.parametrize("page", of_kind("kit"), ids=lambda page: page.name)
def test_a_page_that_collects_passwords_in_anothers_name_is_found(page: LandingPage) -> None:
    assert level(page) in (Level.SUSPICIOUS, Level.MALICIOUS)


@pytest.mark.parametrize("page", of_kind("innocent"), ids=lambda page: page.name)
def test_an_innocent_page_is_left_alone(page: LandingPage) -> None:
    assert level(page) in (Level.CLEAN, Level.UNKNOWN)


@pytest.mark.parametrize("page", of_kind("unseen"), ids=lambda page: page.name)
def test_a_page_that_cannot_be_seen_is_a_finding_of_its_own(page: LandingPage) -> None:
    codes = {signal.code for signal in page_signals(page.html.encode(), page.url)}
    assert codes & {"cannot_see_gate", "cannot_see_script"}
    assert level(page) is Level.UNKNOWN


def test_a_password_that_would_go_elsewhere_is_blocked() -> None:
    (page,) = [page for page in PAGES if page.name == "sent elsewhere"]
    assert level(page) is Level.MALICIOUS
    texts = [signal.text for signal in page_signals(page.html.encode(), page.url)]
    assert "The page asks for a password, but it does not belong to Outlook." in texts
    assert "The page would send the password to another site (collector.example)." in texts


@given(st.binary(max_size=500), st.text(max_size=40))
def test_any_bytes_are_a_page(data: bytes, rest: str) -> None:
    page_signals(data, "https://x.example/" + rest)
    page_signals(b"<form action='" + data + b"'><input type=password></form>", "https://x.example/")


SINGLE_USE = """
    https://x.example/reset?t=1 https://x.example/password/reset/abc https://x.example/confirm/9
    https://x.example/unsubscribe?u=7 https://x.example/u/optout https://x.example/magic-link
    https://x.example/a?token=abc123 https://x.example/a?code=884422 https://x.example/invite/accept
    https://x.example/v/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9 https://x.example/?x=3f2504e0-4f89-41d3-9a0c-0305e82c3301
    https://x.example/c/4f8a9b2c7d1e6f3a5b8c9d0e https://x.example/login https://x.example/abmelden
    https://x.example/?action=verify https://x.example/?s=dGhpcyBpcyBhIHRva2VuIHdpdGggYml0cw
    https://x.example/rsvp?yes=1 https://x.example/verify-email?x=1 javascript:alert(1) http://[
""".split()  # noqa: SIM905 - a table

ORDINARY = """
    https://x.example/ https://x.example/2026/11/21/how-to-grow-tomatoes-in-a-small-garden
    https://x.example/products/red-shoes-size-42 https://x.example/news?id=1234 https://x.example/p/12345678
    https://x.example/search?q=blue+chairs&page=2 https://x.example/de/impressum
    https://x.example/a?utm_source=newsletter&utm_campaign=autumn-sale-2026 https://x.example/download/report-2026.pdf
    https://x.example/authors/jane-doe https://x.example/confirmed-speakers-of-the-conference
""".split()  # noqa: SIM905 - a table


@pytest.mark.parametrize("url", SINGLE_USE)
def test_links_that_work_once_are_recognised(url: str) -> None:
    assert looks_single_use(url)


@pytest.mark.parametrize("url", ORDINARY)
def test_ordinary_links_are_not_taken_for_such(url: str) -> None:
    assert not looks_single_use(url)
