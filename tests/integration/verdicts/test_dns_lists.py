"""Spamhaus DBL and SURBL over real DNS: return codes, what is never a listing, caches, and a resolver that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.verdicts.asking import target_of
from app.verdicts.canonical import expression_digest
from app.verdicts.scoring import Level, Signal
from app.verdicts.sources.dns_lists import QUIET_SECONDS, REFUSED_SECONDS, DnsList
from app.verdicts.sources.registry import make_signal_source
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import SourceFailed
from tests.integration.verdicts.dns_server import Zone, serve_dns

DBL = "dbl.test"
SURBL = "multi.test"


@pytest.fixture
def zone() -> Iterator[Zone]:
    with serve_dns() as served:
        yield served


Make = Callable[..., DnsList]


@pytest.fixture
def make(zone: Zone) -> Make:
    def build(kind: str, address: str, secret: str = "", **values: Any) -> DnsList:
        config = new_config(kind, address=address, options={"nameservers": [zone.address]}, **values)
        source = make_signal_source(config, secret)
        assert isinstance(source, DnsList)
        return source

    return build


async def ask(source: DnsList, url: str, seconds: float = 20.0) -> Signal | None:
    target = target_of(url)
    assert target is not None
    return await source.inspect(target, time.monotonic() + seconds)


@pytest.mark.parametrize(
    ("code", "signal", "level", "weight"),
    [
        ("127.0.1.2", "reported_spam", Level.SUSPICIOUS, 60),
        ("127.0.1.4", "reported_phishing", Level.MALICIOUS, 100),
        ("127.0.1.5", "reported_malware", Level.MALICIOUS, 100),
        ("127.0.1.6", "reported_botnet", Level.MALICIOUS, 100),
        ("127.0.1.102", "reported_abused", Level.SUSPICIOUS, 60),
        ("127.0.1.103", "reported_abused", Level.SUSPICIOUS, 60),
        ("127.0.1.104", "reported_abused", Level.SUSPICIOUS, 60),
        ("127.0.1.105", "reported_abused", Level.SUSPICIOUS, 60),
        ("127.0.1.106", "reported_abused", Level.SUSPICIOUS, 60),
    ],
)
async def test_return_codes_of_the_dbl(
    make: Make, zone: Zone, code: str, signal: str, level: Level, weight: int
) -> None:
    zone.records[f"evil.example.{DBL}"] = [code]
    found = await ask(make("spamhaus_dbl", DBL), "https://a.b.evil.example/path")
    assert found is not None
    assert (found.code, found.decides, found.weight) == (signal, level, weight)
    assert dict(found.fields) == {"entry": "evil.example", "list": "Spamhaus DBL"}
    assert zone.asked == [f"evil.example.{DBL}"]


@pytest.mark.parametrize(
    "code", ["127.0.1.255", "127.255.255.252", "127.255.255.254", "127.255.255.255", "127.255.255.1"]
)
async def test_error_codes_of_the_dbl_are_never_listings(make: Make, zone: Zone, code: str) -> None:
    source = make("spamhaus_dbl", DBL)
    # Also not beside what would be a listing.
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.4", code]
    with pytest.raises(SourceFailed) as failed:
        await ask(source, "http://evil.example/")
    assert failed.value.reason == "refused"
    assert source.error
    # The list does not want to be asked: it is not, for an hour.
    found = await ask(source, "http://other.example/")
    assert found is not None
    assert (found.code, found.weight, found.decides) == ("not_asked", 0, None)
    assert len(zone.asked) == 1


@pytest.mark.parametrize("code", ["127.0.1.3", "127.0.1.77", "127.0.0.2", "127.0.2.5", "192.0.2.4", "10.0.0.1"])
async def test_unknown_codes_and_answers_of_a_lying_resolver_are_no_listings(make: Make, zone: Zone, code: str) -> None:
    zone.records[f"good.example.{DBL}"] = [code]
    zone.records[f"good.example.{SURBL}"] = ["192.0.2.8", "203.0.113.64"]
    assert await ask(make("spamhaus_dbl", DBL), "http://good.example/") is None
    assert await ask(make("surbl", SURBL), "http://good.example/") is None


@pytest.mark.parametrize(
    ("code", "signal", "level"),
    [
        ("127.0.0.8", "reported_phishing", Level.MALICIOUS),
        ("127.0.0.16", "reported_malware", Level.MALICIOUS),
        ("127.0.0.64", "reported_spam", Level.SUSPICIOUS),
        ("127.0.0.128", "reported_abused", Level.SUSPICIOUS),
        ("127.0.0.80", "reported_malware", Level.MALICIOUS),
        ("127.0.0.200", "reported_phishing", Level.MALICIOUS),
        ("127.7.7.64", "reported_spam", Level.SUSPICIOUS),
    ],
)
async def test_bits_of_surbl(make: Make, zone: Zone, code: str, signal: str, level: Level) -> None:
    zone.records[f"evil.example.{SURBL}"] = [code]
    found = await ask(make("surbl", SURBL), "http://www.evil.example/")
    assert found is not None
    assert (found.code, found.decides) == (signal, level)


@pytest.mark.parametrize("code", ["127.0.0.2", "127.0.0.4", "127.0.0.32"])
async def test_reserved_bits_of_surbl_are_no_listings(make: Make, zone: Zone, code: str) -> None:
    zone.records[f"fine.example.{SURBL}"] = [code]
    assert await ask(make("surbl", SURBL), "http://fine.example/") is None


@pytest.mark.parametrize("code", ["127.0.0.1", "127.255.255.254"])
async def test_surbl_that_blocks_us_lists_nothing(make: Make, zone: Zone, code: str) -> None:
    zone.records[f"evil.example.{SURBL}"] = [code]
    with pytest.raises(SourceFailed) as failed:
        await ask(make("surbl", SURBL), "http://evil.example/")
    assert failed.value.reason == "refused"


async def test_only_the_registrable_domain_is_asked_for(make: Make, zone: Zone) -> None:
    source = make("spamhaus_dbl", DBL)
    for url in (
        "https://someone.news.example.co.uk/private?x=1",
        "https://user.github.io/",
        "http://xn--bcher-kva.example/",
        "http://EXAMPLE.com./",
    ):
        assert await ask(source, url) is None
    assert zone.asked == [
        f"example.co.uk.{DBL}",
        f"user.github.io.{DBL}",
        f"xn--bcher-kva.example.{DBL}",
        f"example.com.{DBL}",
    ]


async def test_ip_addresses_are_never_asked_of_the_dbl_and_backwards_of_surbl(make: Make, zone: Zone) -> None:
    zone.records[f"4.3.2.1.{SURBL}"] = ["127.0.0.16"]
    for url in ("http://1.2.3.4/", "http://0x01020304/", "http://[2001:db8::1]/", "http://github.io/"):
        assert await ask(make("spamhaus_dbl", DBL), url) is None
    assert zone.asked == []
    found = await ask(make("surbl", SURBL), "http://0x01020304/")
    assert found is not None
    assert found.code == "reported_malware"
    assert dict(found.fields)["entry"] == "1.2.3.4"
    assert await ask(make("surbl", SURBL), "http://[2001:db8::1]/") is None
    assert zone.asked == [f"4.3.2.1.{SURBL}"]


async def test_what_a_list_said_is_forgotten_where_somebody_knows_better(make: Make, zone: Zone) -> None:
    source = make("surbl", SURBL)
    for url in ("http://www.evil.example/x", "http://1.2.3.4/", "http://other.example/"):
        assert await ask(source, url) is None
    zone.records |= {f"evil.example.{SURBL}": ["127.0.0.8"], f"4.3.2.1.{SURBL}": ["127.0.0.16"]}
    for expression in ("evil.example/", "1.2.3.4/"):
        source.forget(expression_digest(expression))
    before = len(zone.asked)
    assert [(await ask(source, url)) is not None for url in ("http://evil.example/", "http://1.2.3.4/")] == [True, True]
    assert await ask(source, "http://other.example/") is None
    assert len(zone.asked) == before + 2


async def test_a_key_stands_between_name_and_zone_and_in_no_text(make: Make, zone: Zone) -> None:
    source = make("spamhaus_dbl", "dbl.dq.test", secret="abcdefghijklmnopqrstuvwxyz")
    zone.records["evil.example.abcdefghijklmnopqrstuvwxyz.dbl.dq.test"] = ["127.0.1.4"]
    found = await ask(source, "http://evil.example/")
    assert found is not None
    assert "abcdefghij" not in str(found.as_json())
    zone.servfail = True
    with pytest.raises(SourceFailed) as failed:
        await ask(source, "http://other.example/")
    assert "abcdefghij" not in str(failed.value) + source.error


async def test_answers_are_kept_for_their_ttl_and_absence_for_that_of_the_zone(
    make: Make, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make("spamhaus_dbl", DBL)
    now = [1000.0]
    monkeypatch.setattr(source, "_monotonic", lambda: now[0])
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.4"]
    zone.no_data.add(f"empty.example.{DBL}")

    async def all_three() -> None:
        assert await ask(source, "http://evil.example/") is not None
        assert await ask(source, "http://good.example/") is None
        assert await ask(source, "http://empty.example/") is None

    for _ in range(3):
        await all_three()
    assert len(zone.asked) == 3
    now[0] += zone.negative_ttl - 1
    await all_three()
    assert len(zone.asked) == 3
    now[0] += 2  # the absences have run out, the listing (180 seconds) has not
    await all_three()
    assert len(zone.asked) == 5
    now[0] += zone.ttl
    await all_three()
    assert len(zone.asked) == 8


async def test_a_truncated_answer_is_asked_for_over_tcp(make: Make, zone: Zone) -> None:
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.5"]
    zone.truncated.add(f"evil.example.{DBL}")
    found = await ask(make("spamhaus_dbl", DBL), "http://evil.example/")
    assert found is not None
    assert found.code == "reported_malware"
    assert zone.over_tcp == [f"evil.example.{DBL}"]


async def test_who_waits_gives_up_at_the_deadline_and_the_answer_is_there_for_the_next(make: Make, zone: Zone) -> None:
    source = make("spamhaus_dbl", DBL)
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.4"]
    with pytest.raises(SourceFailed) as failed:
        await ask(source, "http://evil.example/", seconds=0.0)
    assert failed.value.reason == "timeout"
    assert await ask(source, "http://evil.example/") is not None
    assert len(zone.asked) == 1


async def test_a_resolver_that_is_away_costs_nothing_after_a_few_failures(
    make: Make, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make("spamhaus_dbl", DBL)
    now = [0.0]
    monkeypatch.setattr(source, "_monotonic", lambda: now[0])
    zone.servfail = True
    for number in range(3):
        with pytest.raises(SourceFailed):
            await ask(source, f"http://site-{number}.example/")
    before = len(zone.asked)
    for number in range(50):
        found = await ask(source, f"http://more-{number}.example/")
        assert found is not None
        assert (found.code, found.weight) == ("not_asked", 0)
    assert len(zone.asked) == before
    # One question tells whether it is back; if not, it is left alone for twice as long.
    now[0] += QUIET_SECONDS + 1
    with pytest.raises(SourceFailed):
        await ask(source, "http://probe.example/")
    now[0] += QUIET_SECONDS + 1
    found = await ask(source, "http://evil.example/")
    assert found is not None
    assert found.code == "not_asked"
    zone.servfail = False
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.4"]
    now[0] += QUIET_SECONDS
    found = await ask(source, "http://evil.example/")
    assert found is not None
    assert found.code == "reported_phishing"
    assert source.error == ""


async def test_a_list_that_refused_is_asked_again_after_an_hour(
    make: Make, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make("spamhaus_dbl", DBL)
    now = [0.0]
    monkeypatch.setattr(source, "_monotonic", lambda: now[0])
    zone.records[f"evil.example.{DBL}"] = ["127.255.255.255"]
    with pytest.raises(SourceFailed):
        await ask(source, "http://evil.example/")
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.4"]
    now[0] += REFUSED_SECONDS + 1
    found = await ask(source, "http://evil.example/")
    assert found is not None
    assert found.code == "reported_phishing"


async def test_many_who_ask_at_once_ask_the_list_once(make: Make, zone: Zone) -> None:
    source = make("spamhaus_dbl", DBL)
    zone.records[f"evil.example.{DBL}"] = ["127.0.1.4"]
    found = await asyncio.gather(*(ask(source, f"http://host-{number}.evil.example/") for number in range(30)))
    assert all(signal is not None for signal in found)
    assert len(zone.asked) == 1


async def test_closing_ends_what_is_under_way(make: Make, zone: Zone) -> None:
    source = make("spamhaus_dbl", DBL)
    zone.silent = True
    asking = asyncio.create_task(ask(source, "http://slow.example/"))
    assert await asyncio.to_thread(zone.was_asked.wait, 10)
    await source.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize(
    "values",
    [
        {"address": "a..b"},
        {"address": "x" * 70 + ".test"},
        {"options": {"nameservers": "resolver.example"}},
        {"options": {"nameservers": "127.0.0.1:99999"}},
    ],
)
def test_a_zone_or_resolver_that_is_none_is_refused(values: dict[str, Any]) -> None:
    config = new_config("surbl", **values)
    with pytest.raises(SourceFailed) as failed:
        make_signal_source(config, "")
    assert failed.value.reason == "address"


def test_resolvers_are_given_with_a_port_or_without() -> None:
    options = {"nameservers": "192.0.2.1, 192.0.2.2:5353, 2001:db8::1, [2001:db8::2]:5353"}
    source = make_signal_source(new_config("surbl", options=options), "")
    assert isinstance(source, DnsList)
    found = [(server.address, server.port) for server in source._get_resolver().nameservers]
    assert found == [("192.0.2.1", 53), ("192.0.2.2", 5353), ("2001:db8::1", 53), ("2001:db8::2", 5353)]
