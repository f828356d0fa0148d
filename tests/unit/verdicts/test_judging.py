"""The inline verdict: heuristics, the local list, and what `postern inspect-url` tells."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.policy.engine import ListRule, PolicySnapshot
from app.verdicts.feed import FeedFile, parse
from app.verdicts.heuristics import delivery_signals, embedded_target, open_chain, url_signals
from app.verdicts.inspect import inspect_url
from app.verdicts.judge import judge
from app.verdicts.scoring import Level

NO_LIST = FeedFile(None)


def codes(url: str, *own: str) -> set[str]:
    return {signal.code for signal in url_signals(url, frozenset(own))}


def level(url: str, *own: str) -> Level:
    return judge(url, source=NO_LIST, own_domains=frozenset(own)).verdict.level


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://203.0.113.9/x", "ip_host"),
        ("http://0xCB007109/x", "ip_host_disguised"),
        ("http://paypal.com@evil.example/", "user_information"),
        ("https://bit.ly/x", "shortener"),
        ("https://xn--pypal-4ve.com/", "homograph"),
        ("https://paypa1.com/", "lookalike"),
        ("https://www.paypal.com.evil-site.net/", "embedded"),
        ("https://bücher.example/", "punycode"),
        ("https://x.example:4443/", "odd_port"),
        ("https://shop.pages.dev/x", "free_hosting"),
        ("https://shop.pages.dev/login", "suspicious_path"),
        ("http://203.0.113.9/owa/", "suspicious_path"),
        ("https://x.example/a/invoice.pdf.exe", "download"),
        ("https://x.example/setup.MSI?x=1", "download"),
        ("https://a.b.c.d.e.f.x.example/", "many_labels"),
        ("https://x.example/r?to=https%3A%2F%2Fother.example%2Fp", "redirector"),
        ("http://x.example/", "no_encryption"),
        ("https://www.paypal.com/signin", "known_good"),
        ("https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fx.example%2F", "wrapped"),
        ("https://protect-us.mimecast.com/s/abc", "wrapped_opaque"),
        ("http://[", "unreadable"),
        ("javascript:alert(1)", "not_web"),
    ],
)
def test_a_signal_is_seen(url: str, code: str) -> None:
    assert code in codes(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://news.example/2026/11/letter?id=7&utm_source=mail#top",
        "https://shop.example/cart",
        "https://docs.example:8443/a",
        "https://www.wikipedia.org/wiki/Login",
        "https://intranet.example/login",
    ],
)
def test_ordinary_addresses_give_no_signal(url: str) -> None:
    assert codes(url) == set()
    assert level(url) is Level.UNKNOWN


def test_names_of_well_known_owners_are_clean_where_nobody_else_can_write() -> None:
    assert level("https://www.paypal.com/") is Level.CLEAN
    assert level("https://someone.github.io/") is Level.UNKNOWN
    assert level("http://www.paypal.com/") is Level.UNKNOWN
    assert level("https://company.sharepoint.com/") is Level.UNKNOWN


@pytest.mark.parametrize(
    "url",
    [
        "https://xn--pypal-4ve.com/",
        "https://paypa1.com/",
        "http://2130706433/",
        "http://paypal.com@evil.example/",
        "https://shop.pages.dev/login",
    ],
)
def test_strong_or_joined_signals_are_suspicious(url: str) -> None:
    assert level(url) is Level.SUSPICIOUS


def test_imitations_of_the_tenants_own_domains_are_found() -> None:
    assert level("https://contos0.example/", "contoso.example") is Level.SUSPICIOUS
    assert level("https://contoso.example/", "contoso.example") is Level.UNKNOWN


def test_an_address_of_the_readers_own_network_weighs_little() -> None:
    assert level("http://192.168.1.20/login") is Level.UNKNOWN


def test_what_is_wrapped_is_judged_by_what_is_inside() -> None:
    wrapped = "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fpaypa1.com%2F"
    made = judge(wrapped, source=NO_LIST)
    assert made.chain == (wrapped, "https://paypa1.com/")
    assert made.verdict.final_url == "https://paypa1.com/"
    assert made.verdict.level is Level.SUSPICIOUS


def test_a_carried_address_is_another_sites_only() -> None:
    assert embedded_target("https://a.example/?u=https://b.example/x&y=1") == "https://b.example/x"
    assert embedded_target("https://a.example/?u=https://www.a.example/x") is None
    assert embedded_target("https://a.example/") is None
    assert embedded_target("http://[") is None


def test_what_the_message_showed_becomes_a_signal() -> None:
    found = [
        {"code": "text_mismatch", "evidence": {"shown": "a.example", "host": "b.example", "strength": "strong"}},
        {"code": "text_mismatch", "evidence": "nonsense"},
        {"code": "other"},
        "nonsense",
    ]
    (signal,) = delivery_signals(found)
    assert signal.text == "The text shows a.example, but the link leads to b.example."
    assert signal.weight == 50


def feed(tmp_path: Path, text: str) -> FeedFile:
    path = tmp_path / "feed.tsv"
    path.write_text(text)
    return FeedFile(path)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "http://www.evil.example:8080/x?y#z",
        "https://EVIL.example./",
        "http://host.example/kit/deep/er?x=1",
        "http://host.example/%6bit/x",
        "http://host.example/exact?id=1",
        "http://203.0.113.9/anything",
        "http://0xCB007109/",
        "https://xn--bcher-kva.example/",
        "https://google.com/url?q=https://evil.example/",
        "https://a.example/?next=https://evil.example/",
    ],
)
def test_the_list_covers(tmp_path: Path, url: str) -> None:
    lines = (
        "evil.example",
        "http://host.example/kit/",
        "http://host.example/exact?id=1",
        "203.0.113.9",
        "bücher.example",
    )
    listed = feed(tmp_path, "# comment\n\n" + "".join(f"malicious\t{line}\n" for line in lines))
    listed.refresh()
    verdict = judge(url, source=listed).verdict
    assert verdict.level is Level.MALICIOUS
    assert verdict.signals[0].source == "local list"


@pytest.mark.parametrize(
    "url",
    [
        "https://notevil.example/",
        "https://evil.example.org/",
        "http://host.example/",
        "http://host.example/kit",
        "http://host.example/exact?id=2",
        "http://evil.example@good.example/",
    ],
)
def test_the_list_does_not_cover(tmp_path: Path, url: str) -> None:
    lines = ("evil.example", "http://host.example/kit/", "http://host.example/exact?id=1")
    listed = feed(tmp_path, "".join(f"malicious\t{line}\n" for line in lines))
    listed.refresh()
    assert listed.signals(url) == ()


def test_the_worst_of_several_entries_counts(tmp_path: Path) -> None:
    listed = feed(tmp_path, "suspicious\tx.example\nmalicious\thttps://x.example/bad/\nsuspicious\tx.example/bad/\n")
    listed.refresh()
    assert listed.signals("https://x.example/bad/")[0].decides is Level.MALICIOUS
    assert listed.signals("https://x.example/")[0].decides is Level.SUSPICIOUS


def test_lines_that_are_none_are_passed_over_counted_and_named() -> None:
    entries = parse(
        "evil.example\nharmless\tx.example\nmalicious\t\nmalicious\ta b\nmalicious\tlocalhost\nmalicious\tx.example"
    )
    assert entries.levels == {"x.example/": Level.MALICIOUS}
    assert entries.refused == 5
    assert entries.problems[0].startswith("line 1: ")


@given(st.text(max_size=300))
def test_any_file_can_be_read(text: str) -> None:
    parse(text)


def test_a_changed_file_is_read_again_but_not_looked_at_all_the_time(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "feed.tsv"
    path.write_text("malicious\ta.example\n")
    listed = FeedFile(path, lambda: now)
    assert listed.refresh() == 1
    path.write_text("malicious\tb.example\n")
    os.utime(path, ns=(1, 1))
    assert listed.refresh() == 1
    now = 0.3
    assert listed.refresh() == 2
    assert listed.signals("https://b.example/")
    assert not listed.signals("https://a.example/")


def test_a_file_that_went_away_leaves_its_entries_in_force(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "feed.tsv"
    path.write_text("malicious\ta.example\n")
    listed = FeedFile(path, lambda: now)
    listed.refresh()
    path.unlink()
    now = 1.0
    listed.refresh()
    assert listed.signals("https://a.example/")
    assert listed.error


@given(st.text(max_size=200))
def test_any_text_can_be_judged(text: str) -> None:
    for url in (text, "http://" + text, "https://x.example/" + text):
        judge(url, source=NO_LIST)


@given(st.binary(max_size=60))
def test_chains_are_short(data: bytes) -> None:
    chain, _ = open_chain("https://google.com/url?q=" * 20 + data.decode("latin-1"))
    assert 1 <= len(chain) <= 8


def test_an_inspection_tells_everything_in_stable_names(tmp_path: Path) -> None:
    path = tmp_path / "feed.tsv"
    path.write_text("malicious\tevil.example\n")
    lists = PolicySnapshot(1, rules=(ListRule(5, "allow", "wildcard", "evil.example"),))
    found = inspect_url("https://google.com/url?q=https://evil.example/a", feed_file=path, lists=lists)
    data = json.loads(json.dumps(found.as_json()))
    assert data["level"] == "malicious"
    assert data["chain"] == ["https://google.com/url?q=https://evil.example/a", "https://evil.example/a"]
    assert data["wrappers"] == ["Google redirect"]
    assert data["canonical"] == "https://evil.example/a"
    assert data["expressions"] == ["evil.example/a", "evil.example/"]
    assert data["decision"]["action"] == "redirect"
    assert data["decision"]["rule"] == "list:5 allow evil.example"
    assert data["offline"] is True


def test_an_inspection_cannot_control_a_terminal() -> None:
    text = inspect_url("https://x.example/\x1b[2J\u202e").as_text()
    assert text.replace("\n", "").isprintable()
    assert "not proof" in text
