"""Safe Browsing v4 and v5 and Web Risk against servers that speak their protocols: lists, diffs, look-ups, faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.verdicts.asking import target_of
from app.verdicts.scoring import Level, Signal
from app.verdicts.sources.files import Renewed, file_name
from app.verdicts.sources.registry import make_signal_source
from app.verdicts.sources.safe_browsing_file import PrefixFile
from app.verdicts.sources.safe_browsing_lookup import GoogleSource, backoff_seconds
from app.verdicts.sources.safe_browsing_prefixes import load
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import SourceConfig, SourceFailed
from tests.integration.verdicts.google_lists import Lists, full_hash
from tests.integration.verdicts.loopback import Loopback, Reply, loopback_client, serve

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KINDS = ("safe_browsing_v4", "safe_browsing", "web_risk")


class Clock:
    """Time that the test moves; the sources' own, never that of the deadline."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)


@dataclass
class Setting:
    """A source, its server, and the folder its file is in."""

    kind: str
    lists: Lists
    server: Loopback
    folder: Path
    clock: Clock
    config: SourceConfig
    source: GoogleSource
    previous: bytes | None = None

    async def renew(self) -> Renewed:
        """As the worker does it: ask, and swap the file."""
        renewed = await self.source.renew(loopback_client(), self.previous)
        if renewed.content is not None:
            self.previous = renewed.content
            draft = self.folder / "draft"
            draft.write_bytes(renewed.content)
            draft.replace(self.folder / file_name(self.config))
            self.clock.seconds += 1
        return renewed

    async def ask(self, url: str, seconds: float = 10.0) -> Signal | None:
        target = target_of(url)
        assert target is not None
        return await self.source.inspect(target, time.monotonic() + seconds)

    def searches(self) -> int:
        return sum(path.endswith((":find", ":search")) for path in self.server.paths())

    def prefixes(self) -> dict[str, list[bytes]]:
        return {header.name: found.prefixes() for header, found in self._loaded()}

    def versions(self) -> dict[str, bytes]:
        return {header.name: header.version for header, _ in self._loaded()}

    def _loaded(self) -> list[tuple[Any, Any]]:
        headers = PrefixFile(self.folder / file_name(self.config)).headers
        lists = load(self.previous, [header.name for header in headers])
        return [(header, lists[header.name]) for header in headers]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Make = Callable[..., Setting]


@pytest.fixture
def make(kind: str, tmp_path: Path) -> Iterator[Make]:
    lists = Lists(wait="1800s" if kind != "web_risk" else "2026-11-21T12:30:00Z")
    protocol = {"safe_browsing_v4": lists.v4, "safe_browsing": lists.v5, "web_risk": lists.web_risk}[kind]
    with serve(protocol) as server:

        def build(secret: str = "the-key", **options: Any) -> Setting:
            config = new_config(kind, address=server.url, secret_ref="env:KEY", options=options)
            clock = Clock()
            source = make_signal_source(config, secret)
            assert isinstance(source, GoogleSource)
            source._monotonic, source._clock, source._random = clock.monotonic, clock.now, lambda: 0.5
            source.use(tmp_path, loopback_client())
            return Setting(kind, lists, server, tmp_path, clock, config, source)

        yield build


def some(count: int, seed: int, length: int = 4) -> list[bytes]:
    made = random.Random(seed)
    return [made.randbytes(length) for _ in range(count)]


async def test_the_whole_list_comes_first_and_the_server_says_when_to_ask_again(make: Make) -> None:
    setting = make(threats="MALWARE,SOCIAL_ENGINEERING")
    setting.lists.publish("MALWARE", some(500, 1))
    setting.lists.report("SOCIAL_ENGINEERING", "evil.example/")
    renewed = await setting.renew()
    assert renewed.entries == 501
    assert renewed.refused == 0
    assert renewed.wait_seconds == 1800
    assert sorted(map(len, setting.prefixes().values())) == [1, 500]


@pytest.mark.parametrize("compression", ["RAW", "RICE"])
async def test_updates_bring_additions_and_removals(make: Make, compression: str) -> None:
    setting = make(threats="MALWARE")
    setting.lists.compression = compression
    first, later = some(300, 2), some(80, 3)
    setting.lists.publish("MALWARE", first)
    await setting.renew()
    kept = [prefix for at, prefix in enumerate(sorted(first)) if at % 3]
    setting.lists.publish("MALWARE", [*kept, *later])
    await setting.renew()
    assert list(setting.prefixes().values()) == [sorted({*kept, *later})]
    # One that empties the list, and one that fills it again.
    setting.lists.publish("MALWARE", [])
    await setting.renew()
    assert list(setting.prefixes().values()) == [[]]
    setting.lists.publish("MALWARE", [b"abcd"])
    await setting.renew()
    assert list(setting.prefixes().values()) == [[b"abcd"]]


async def test_an_update_without_changes_changes_nothing(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.publish("MALWARE", some(20, 4))
    await setting.renew()
    renewed = await setting.renew()
    assert renewed.content is None


async def test_an_update_with_a_wrong_checksum_is_disregarded_and_everything_is_asked_for_again(make: Make) -> None:
    setting = make(threats="MALWARE")
    first, second = some(50, 5), some(60, 6)
    setting.lists.publish("MALWARE", first)
    await setting.renew()
    setting.lists.publish("MALWARE", second)
    setting.lists.wrong_checksum.add("MALWARE")
    renewed = await setting.renew()
    assert renewed.refused == 1
    assert "checksum" in renewed.problems[0]
    assert list(setting.prefixes().values()) == [sorted(first)]
    assert list(setting.versions().values()) == [b""]
    assert renewed.wait_seconds == pytest.approx(1800, abs=5)
    await setting.renew()
    assert list(setting.prefixes().values()) == [sorted(second)]


async def test_a_damaged_file_is_made_from_the_beginning(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.publish("MALWARE", some(50, 7))
    await setting.renew()
    assert setting.previous is not None
    good = setting.previous
    setting.previous = good[:-7]
    await setting.renew()
    assert setting.previous == good


async def test_a_first_update_with_a_wrong_checksum_is_a_failure(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.publish("MALWARE", some(5, 8))
    setting.lists.wrong_checksum.add("MALWARE")
    with pytest.raises(SourceFailed, match="checksum") as failed:
        await setting.renew()
    assert failed.value.reason == "format"


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_an_error_is_a_failure_with_the_documented_back_off(make: Make, status: int) -> None:
    setting = make(threats="MALWARE")
    setting.lists.publish("MALWARE", some(5, 9))
    setting.server.fail(status)
    with pytest.raises(SourceFailed) as failed:
        await setting.renew()
    assert failed.value.first_retry == 15 * 60 * 1.5
    await setting.renew()


async def test_retry_after_is_passed_on(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.server.fail(503, **{"Retry-After": "7200"})
    with pytest.raises(SourceFailed) as failed:
        await setting.renew()
    assert failed.value.retry_after == 7200


async def test_a_truncated_update_is_refused_whole(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.publish("MALWARE", some(500, 10))
    setting.server.cut_off()
    with pytest.raises(SourceFailed):
        await setting.renew()
    assert setting.previous is None


async def test_a_wrong_key_is_said_and_not_repeated(make: Make) -> None:
    setting = make(secret="a-wrong-key", threats="MALWARE")
    with pytest.raises(SourceFailed) as failed:
        await setting.renew()
    assert failed.value.reason == "refused"
    assert "a-wrong-key" not in str(failed.value)


async def test_the_key_is_in_a_header_and_in_no_address(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    await setting.ask("http://evil.example/")
    assert setting.searches() == 1
    for asked in setting.server.asked:
        assert asked.headers["x-goog-api-key"] == "the-key"
        assert "the-key" not in asked.path + str(asked.query)


async def test_what_is_not_listed_costs_no_request(make: Make) -> None:
    setting = make(threats="MALWARE")
    assert await setting.ask("http://evil.example/") is None  # no list yet
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    for number in range(50):
        assert await setting.ask(f"http://site-{number}.example/a/b?c=d") is None
    assert setting.searches() == 0


async def test_a_listed_page_is_found_under_every_expression_that_covers_it(make: Make) -> None:
    setting = make(threats="MALWARE,SOCIAL_ENGINEERING,UNWANTED_SOFTWARE")
    setting.lists.report("MALWARE", "evil.example/")
    setting.lists.report("SOCIAL_ENGINEERING", "sites.example/fake/")
    setting.lists.report("UNWANTED_SOFTWARE", "tools.example/get?id=1")
    await setting.renew()
    found = await setting.ask("https://a.b.evil.example:8443/x/y?z#f")
    assert found is not None
    assert (found.code, found.decides, found.weight) == ("reported_malware", Level.MALICIOUS, 100)
    advisory = "web_risk" if setting.kind == "web_risk" else "safe_browsing"
    assert dict(found.fields) == {"entry": "evil.example/", "list": setting.config.name, "advisory": advisory}
    found = await setting.ask("https://sites.example/fake/login.html")
    assert found is not None
    assert (found.code, found.decides) == ("reported_phishing", Level.MALICIOUS)
    found = await setting.ask("http://tools.example/get?id=1")
    assert found is not None
    assert (found.code, found.decides, found.weight) == ("reported_unwanted", Level.SUSPICIOUS, 60)
    assert await setting.ask("http://tools.example/get?id=2") is None
    assert "may" in found.text


async def test_only_prefixes_leave_the_machine(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    await setting.ask("https://someone.evil.example/secret-path?private=1")
    (asked,) = [one for one in setting.server.asked if one.path.endswith((":find", ":search"))]
    sent = str(asked.query) + asked.body.decode()
    for word in ("evil", "example", "secret", "private", "someone"):
        assert word not in sent
    full = full_hash("evil.example/")
    encodings = (base64.b64encode, base64.urlsafe_b64encode)
    assert any(encode(full[:4]).decode() in sent for encode in encodings)
    assert all(encode(full[:5]).decode()[:-2] not in sent for encode in encodings)


async def test_answers_are_kept_as_long_as_the_server_says(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    for _ in range(3):
        assert await setting.ask("http://evil.example/") is not None
    assert setting.searches() == 1
    setting.clock.seconds += 290
    assert await setting.ask("http://evil.example/") is not None
    assert setting.searches() == 1
    setting.clock.seconds += 20  # a match is kept for 300 seconds
    assert await setting.ask("http://evil.example/") is not None
    assert setting.searches() == 2


async def test_a_prefix_that_only_looks_listed_is_asked_for_once(make: Make) -> None:
    setting = make(threats="MALWARE")
    # Listed is another address with the same first bytes; what the server holds differs in the rest.
    collision = full_hash("innocent.example/")[:4] + bytes(28)
    setting.lists.publish("MALWARE", [collision[:4]])
    setting.lists.threats[collision] = ["MALWARE"]
    await setting.renew()
    for _ in range(3):
        assert await setting.ask("http://innocent.example/") is None
    assert setting.searches() == 1
    setting.clock.seconds += 250
    assert await setting.ask("http://innocent.example/") is None
    assert setting.searches() == 1
    setting.clock.seconds += 700
    assert await setting.ask("http://innocent.example/") is None
    assert setting.searches() == 2


async def test_a_listing_that_the_server_took_back_ends_with_its_time(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    assert await setting.ask("http://evil.example/") is not None
    setting.lists.threats.clear()
    assert await setting.ask("http://evil.example/") is not None
    setting.clock.seconds += 301
    assert await setting.ask("http://evil.example/") is None


async def test_a_server_that_fails_is_left_alone_for_the_documented_time(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    setting.server.fail(503)
    with pytest.raises(SourceFailed):
        await setting.ask("http://evil.example/")
    assert setting.searches() == 1
    for _ in range(3):
        with pytest.raises(SourceFailed) as failed:
            await setting.ask("http://evil.example/")
        assert failed.value.reason == "busy"
    assert setting.searches() == 1
    setting.clock.seconds += 15 * 60 * 1.5 + 1
    setting.server.fail(500)
    with pytest.raises(SourceFailed):
        await setting.ask("http://evil.example/")
    assert setting.searches() == 2
    setting.clock.seconds += 15 * 60 * 1.5 + 1  # the second time it is twice as long
    with pytest.raises(SourceFailed):
        await setting.ask("http://evil.example/")
    assert setting.searches() == 2
    setting.clock.seconds += 15 * 60 * 1.5
    assert await setting.ask("http://evil.example/") is not None
    assert setting.searches() == 3


async def test_a_truncated_answer_about_full_hashes_is_a_failure(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    setting.server.cut_off()
    with pytest.raises(SourceFailed):
        await setting.ask("http://evil.example/")


async def test_many_who_ask_at_once_ask_the_server_once(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    found = await asyncio.gather(*(setting.ask(f"http://evil.example/{number}") for number in range(20)))
    assert all(signal is not None for signal in found)
    assert setting.searches() == 1


async def test_a_swapped_file_is_used_without_a_restart(make: Make) -> None:
    setting = make(threats="MALWARE")
    setting.lists.publish("MALWARE", some(5, 11))
    await setting.renew()
    assert await setting.ask("http://evil.example/") is None
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    assert await setting.ask("http://evil.example/") is not None


async def test_a_source_that_is_set_to_suspicious_never_blocks(make: Make) -> None:
    setting = make(threats="MALWARE")
    object.__setattr__(setting.config, "level", Level.SUSPICIOUS)
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    found = await setting.ask("http://evil.example/")
    assert found is not None
    assert (found.decides, found.weight) == (Level.SUSPICIOUS, 60)


async def test_a_source_with_less_weight_adds_points_and_decides_nothing(make: Make) -> None:
    setting = make(threats="MALWARE")
    object.__setattr__(setting.config, "weight", 35)
    setting.lists.report("MALWARE", "evil.example/")
    await setting.renew()
    found = await setting.ask("http://evil.example/")
    assert found is not None
    assert (found.decides, found.weight) == (None, 35)


def test_back_off_doubles_up_to_a_day() -> None:
    waits = [backoff_seconds(failures, lambda: 0.0) for failures in range(1, 12)]
    assert waits[:4] == [900, 1800, 3600, 7200]
    assert waits[-1] == 24 * 3600
    assert backoff_seconds(1, lambda: 1.0) == 1800


class TestVersion4:
    @pytest.fixture(params=["safe_browsing_v4"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    async def test_prefixes_of_every_length_come_together(self, make: Make) -> None:
        setting = make(threats="MALWARE")
        expected = [*some(100, 12), *some(30, 13, 5), *some(20, 14, 32)]
        setting.lists.publish("MALWARE", expected)
        await setting.renew()
        assert list(setting.prefixes().values()) == [sorted(expected)]
        kept = sorted(expected)[::2]
        setting.lists.publish("MALWARE", kept)
        await setting.renew()
        assert list(setting.prefixes().values()) == [kept]

    async def test_a_long_prefix_is_sent_as_it_is_listed(self, make: Make) -> None:
        setting = make(threats="MALWARE")
        setting.lists.report("MALWARE", "evil.example/", length=7)
        await setting.renew()
        assert await setting.ask("http://evil.example/") is not None
        (entry,) = setting.server.asked[-1].json()["threatInfo"]["threatEntries"]
        assert base64.b64decode(entry["hash"]) == full_hash("evil.example/")[:7]

    async def test_the_minimum_wait_of_the_search_is_kept(self, make: Make) -> None:
        setting = make(threats="MALWARE")
        setting.lists.report("MALWARE", "evil.example/", "other.example/")
        await setting.renew()
        setting.server.faults.append(
            Reply.of({"matches": [], "negativeCacheDuration": "5s", "minimumWaitDuration": "3600s"})
        )
        assert await setting.ask("http://evil.example/") is None
        with pytest.raises(SourceFailed, match="asked to wait"):
            await setting.ask("http://other.example/")
        assert setting.searches() == 1
        setting.clock.seconds += 3601
        assert await setting.ask("http://other.example/") is not None


class TestVersion5:
    @pytest.fixture(params=["safe_browsing"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    async def test_canaries_and_threats_of_frames_are_not_enforced(self, make: Make) -> None:
        setting = make(threats="MALWARE")
        setting.lists.report("MALWARE", "canary.example/", "frame.example/", "later.example/", "evil.example/")
        for host, attribute in (("canary", 1), ("frame", 2), ("later", 77)):
            setting.lists.attributes[full_hash(f"{host}.example/")] = [attribute]
        await setting.renew()
        for host in ("canary", "frame", "later"):
            assert await setting.ask(f"http://{host}.example/") is None
        assert await setting.ask("http://evil.example/") is not None

    async def test_longer_prefixes_are_searched_by_their_first_four_bytes(self, make: Make) -> None:
        setting = make(lists="mw-8b")
        setting.lists.report("MALWARE", "evil.example/", "worse.example/", length=8)
        await setting.renew()
        assert setting.prefixes() == {
            "mw-8b": sorted(full_hash(name)[:8] for name in ("evil.example/", "worse.example/"))
        }
        assert await setting.ask("http://evil.example/") is not None

    @pytest.mark.parametrize("length", [4, 8, 16, 32])
    async def test_lists_of_every_hash_length_are_decoded(self, make: Make, length: int) -> None:
        setting = make(lists="mw-8b")
        first, second = some(200, 15, length), some(40, 16, length)
        setting.lists.publish("MALWARE", first)
        await setting.renew()
        setting.lists.publish("MALWARE", [*sorted(first)[50:], *second])
        await setting.renew()
        assert setting.prefixes() == {"mw-8b": sorted([*sorted(first)[50:], *second])}

    async def test_bytes_that_are_no_message_are_a_failure(self, make: Make) -> None:
        setting = make(threats="MALWARE")
        setting.server.faults.append(Reply(b"\xff\xff\xff\xff"))
        with pytest.raises(SourceFailed) as failed:
            await setting.renew()
        assert failed.value.reason == "format"


def test_checksums_of_the_test_server_are_those_of_the_documentation() -> None:
    lists = Lists()
    lists.publish("MALWARE", [b"bbbb", b"aaaa"])
    assert lists.checksum("MALWARE") == hashlib.sha256(b"aaaabbbb").digest()
