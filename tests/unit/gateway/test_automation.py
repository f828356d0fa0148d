"""A set of labelled click traces: what scanners, previews, libraries and people leave behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.automation import ClickTrace, label

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)
EDGE = CHROME + " Edg/130.0.0.0"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Safari/605.1.15"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)
OLD_SAFARI = SAFARI.replace("Version/18.1", "Version/15.6")
ANDROID = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36"
)
NAVIGATION = {
    "accept-language": "de-DE,de;q=0.9",
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
    "sec-fetch-user": "?1",
}
FROM_APP = {name: value for name, value in NAVIGATION.items() if name != "sec-fetch-user"} | {"sec-fetch-site": "none"}
BARE = {"accept": "*/*"}


def trace(agent: str, headers: dict[str, str], after: float | None = 3600, **more: object) -> ClickTrace:
    values: dict[str, object] = {
        "at": NOON,
        "message": 7,
        "mailbox": 3,
        "url": "https://x.example/1",
        "host": "x.example",
        "agent": agent,
        "headers": headers,
        "delivered_at": None if after is None else NOON - timedelta(seconds=after),
    }
    return ClickTrace(**{**values, **more})  # type: ignore[arg-type]  # values by field name


PEOPLE = {
    "Chrome from web mail": trace(CHROME, NAVIGATION),
    "Edge from Outlook for Windows, which opens it as an application": trace(EDGE, FROM_APP),
    "Firefox from web mail": trace(FIREFOX, NAVIGATION),
    "Firefox from Thunderbird": trace(FIREFOX, FROM_APP),
    "Safari from Mail": trace(SAFARI, FROM_APP),
    "an older Safari, which sends no metadata": trace(OLD_SAFARI, {"accept-language": "en"}),
    "an iPhone": trace(IPHONE, FROM_APP),
    "an Android phone": trace(ANDROID, FROM_APP),
    "somebody quick, eight seconds after delivery": trace(CHROME, NAVIGATION, 8),
    "somebody who waited for a sign-in link": trace(CHROME, NAVIGATION, 2),
    "somebody whose message is not known": trace(CHROME, FROM_APP, None),
    "somebody who went on past a warning": trace(CHROME, FROM_APP, 5, action="proceed"),
    "a privacy browser without a language": trace(
        FIREFOX, {name: value for name, value in NAVIGATION.items() if name != "accept-language"}
    ),
    "an unusual browser": trace("Lynx/2.9.0 libwww-FM/2.14", {"accept-language": "en"}),
}

AUTOMATED = {
    "curl": trace("curl/8.9.1", BARE),
    "Python": trace("python-requests/2.32.3", BARE),
    "Go": trace("Go-http-client/2.0", {}),
    "Java": trace("Java/21.0.4", BARE),
    "okhttp": trace("okhttp/4.12.0", {"accept-language": "en"}),
    "nothing at all": trace("", {}),
    "blanks": trace("   ", {"accept-language": "en"}),
    "a search engine": trace("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", BARE),
    "a chat preview": trace("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", BARE),
    "another chat preview": trace("WhatsApp/2.23.20.0", BARE),
    "a social preview": trace("facebookexternalhit/1.1", BARE),
    "Skype's preview": trace("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", BARE),
    "Office's own fetch": trace("Mozilla/4.0 (compatible; ms-office; MSOffice 16)", {"accept-language": "en"}),
    "a mail gateway": trace("BarracudaLinkProtect/1.0", BARE),
    "a headless browser": trace(CHROME.replace("Chrome/", "HeadlessChrome/"), FROM_APP),
    "a scanner dressed as Chrome without its headers": trace(CHROME, BARE, 4),
    "a scanner dressed as Chrome at delivery": trace(CHROME, {"accept-language": "en-US"}, 1),
    "a fetch by a page": trace(CHROME, {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}),
    "a prerender by a program": trace(CHROME, {"sec-fetch-mode": "cors", "accept-language": "en"}, 2),
    "a click before delivery": trace(CHROME, BARE, -5),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_a_person_is_taken_for_a_person(name: str) -> None:
    found = label(PEOPLE[name])
    assert not found.automated, found


@pytest.mark.parametrize("name", AUTOMATED)
def test_a_program_is_taken_for_a_program_with_reasons(name: str) -> None:
    found = label(AUTOMATED[name])
    assert found.automated, found
    assert found.reasons
    assert all(reason.endswith(".") for reason in found.reasons)


def test_many_links_of_one_message_within_seconds_are_a_scanner_however_it_is_dressed() -> None:
    burst = [
        trace(CHROME, FROM_APP, 120, url=f"https://x.example/{number}", at=NOON + timedelta(seconds=number / 4))
        for number in range(9)
    ]
    assert all(label(click, burst).automated for click in burst)


def test_two_links_clicked_by_a_person_are_two_clicks() -> None:
    two = [trace(CHROME, NAVIGATION, 120, url=f"https://x.example/{number}") for number in range(2)]
    assert not any(label(click, two).automated for click in two)


def test_opening_the_same_link_again_and_again_is_no_burst() -> None:
    same = [trace(CHROME, NAVIGATION, 120, at=NOON + timedelta(seconds=number / 2)) for number in range(10)]
    assert not any(label(click, same).automated for click in same)


def test_clicks_further_apart_are_not_looked_at_together() -> None:
    spread = [
        trace(CHROME, FROM_APP, 120, url=f"https://x.example/{number}", at=NOON + timedelta(seconds=11 * number))
        for number in range(9)
    ]
    assert not any(label(click, spread).automated for click in spread)


def test_one_program_in_many_mailboxes_at_once_is_a_scanner() -> None:
    many = [
        trace(CHROME, {"accept-language": "en"}, 5, message=number, mailbox=number, url=f"https://x.example/{number}")
        for number in range(12)
    ]
    assert all(label(click, many).automated for click in many)


def test_a_newsletter_read_by_colleagues_is_not_a_scanner() -> None:
    colleagues = [
        trace(EDGE, NAVIGATION, 900, message=number, mailbox=number, at=NOON + timedelta(seconds=number))
        for number in range(8)
    ]
    assert not any(label(click, colleagues).automated for click in colleagues)


@given(st.text(max_size=400), st.dictionaries(st.sampled_from([*NAVIGATION, "accept", "via"]), st.text(max_size=20)))
def test_any_request_gets_a_label(agent: str, headers: dict[str, str]) -> None:
    found = label(trace(agent, headers))
    assert 0 <= found.score <= 100


def test_a_page_that_is_never_drawn_speaks_for_a_program_and_a_drawn_one_for_a_person() -> None:
    fetched = trace(CHROME, FROM_APP, action="warn")
    scores = {drawn: label(trace(CHROME, BARE, action="warn", drawn=drawn)).score for drawn in (True, None, False)}
    assert scores[True] < scores[None] < scores[False]
    assert not label(fetched).automated
    assert any("never drawn" in reason for reason in label(trace(CHROME, BARE, action="warn", drawn=False)).reasons)


def test_a_data_centre_alone_makes_no_click_automated_but_adds_to_other_signs() -> None:
    assert not label(trace(CHROME, FROM_APP, datacentre=True)).automated
    odd = {name: value for name, value in FROM_APP.items() if name != "accept-language"}
    assert label(trace("Something/1.0", odd, datacentre=True)).automated
    assert not label(trace("Something/1.0", FROM_APP, datacentre=False)).automated
