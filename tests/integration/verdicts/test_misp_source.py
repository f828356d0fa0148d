"""MISP feeds against a server that publishes one: manifest, events, increments, and what does not count."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from app.verdicts.sources.misp import WHOLE_DAYS, MispFeed
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import Download, SourceFailed
from tests.integration.verdicts.loopback import Asked, Loopback, Reply, loopback_client, serve

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def attribute(kind: str, value: Any, **values: Any) -> dict[str, Any]:
    return {
        "uuid": str(uuid.uuid4()),
        "type": kind,
        "category": "Network activity",
        "to_ids": True,
        "value": value,
        **values,
    }


@dataclass
class Feed:
    """A published feed.

    Attributes:
        events: UUID -> event, as in its file.
        manifest: UUID -> what the manifest says.
    """

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    def publish(
        self, *attributes: dict[str, Any], day: str = "2026-11-01", timestamp: int = 1_000, **event: Any
    ) -> str:
        name = str(uuid.uuid4())
        about = {"info": "An event", "date": day, "analysis": "2", "threat_level_id": "1", "timestamp": str(timestamp)}
        self.events[name] = {"Event": {"uuid": name, **about, "Attribute": list(attributes), **event}}
        self.manifest[name] = {**about, "Orgc": {"name": "An organisation", "uuid": str(uuid.uuid4())}, "Tag": []}
        return name

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/feed/manifest.json":
            return Reply.of(self.manifest)
        event = self.events.get(asked.path.removeprefix("/feed/").removesuffix(".json"))
        return Reply(b"", 404) if event is None else Reply(json.dumps(event).encode())


@dataclass
class Reading:
    """A source and its server."""

    feed: Feed
    loopback: Loopback
    source: MispFeed
    now: datetime = NOW
    state: bytes | None = None

    def options(self, secret: str = "", **options: Any) -> None:
        config = new_config("misp", address=f"{self.loopback.url}/feed/", options=options)
        self.source = MispFeed(config, secret, clock=lambda: self.now)

    async def download(self) -> Download:
        async with self.source.download(loopback_client(), self.state) as download:
            self.state = download.state
            return download


@pytest.fixture
def reading() -> Iterator[Reading]:
    feed = Feed()
    with serve(feed.answer) as loopback:
        config = new_config("misp", address=f"{loopback.url}/feed/")
        made = Reading(feed, loopback, MispFeed(config, ""))
        made.options()
        yield made


def values(download: Download) -> set[str]:
    return {entry.value for entry in download.entries}


async def test_addresses_and_hosts_marked_for_detection_are_taken(reading: Reading) -> None:
    reading.feed.publish(
        attribute("url", "http://evil.example/a"),
        attribute("domain", "bad.example"),
        attribute("hostname", "www.worse.example", to_ids="1"),
        attribute("domain|ip", "mixed.example|192.0.2.1"),
        attribute("url", "http://context.example/", to_ids=False),
        attribute("url", "http://deleted.example/", deleted=True),
        attribute("ip-dst", "192.0.2.7"),
        attribute("md5", "d41d8cd98f00b204e9800998ecf8427e"),
        attribute("link", "http://report.example/"),
        attribute("url", "  "),
        Object=[
            {"name": "url", "Attribute": [attribute("url", "http://object.example/")]},
            {"name": "url", "deleted": True, "Attribute": [attribute("url", "http://gone.example/")]},
        ],
    )
    download = await reading.download()
    assert download.whole
    assert values(download) == {
        "http://evil.example/a",
        "bad.example",
        "www.worse.example",
        "mixed.example",
        "http://object.example/",
    }
    assert download.refused == 1


async def test_an_entry_says_since_when(reading: Reading) -> None:
    reading.feed.publish(
        attribute("domain", "a.example", first_seen="2026-10-05T10:00:00+00:00"), attribute("domain", "b.example")
    )
    download = await reading.download()
    assert {entry.value: entry.since for entry in download.entries} == {
        "a.example": date(2026, 10, 5),
        "b.example": date(2026, 11, 1),
    }


async def test_later_only_events_that_changed_are_asked_for(reading: Reading) -> None:
    reading.feed.publish(attribute("domain", "a.example"), timestamp=100)
    await reading.download()
    reading.loopback.asked.clear()
    assert (await reading.download()).unchanged
    assert reading.loopback.paths() == ["/feed/manifest.json"]
    new = reading.feed.publish(attribute("domain", "b.example"), timestamp=200)
    reading.loopback.asked.clear()
    download = await reading.download()
    assert not download.whole
    assert values(download) == {"b.example"}
    assert reading.loopback.paths() == ["/feed/manifest.json", f"/feed/{new}.json"]


async def test_once_a_week_all_events_are_asked_for(reading: Reading) -> None:
    name = reading.feed.publish(attribute("domain", "a.example"), attribute("domain", "b.example"), timestamp=100)
    await reading.download()
    reading.feed.events[name]["Event"]["Attribute"].pop()
    reading.now += timedelta(days=WHOLE_DAYS, seconds=1)
    download = await reading.download()
    assert download.whole
    assert values(download) == {"a.example"}


async def test_old_events_are_left_out(reading: Reading) -> None:
    reading.feed.publish(attribute("domain", "old.example"), day="2015-03-01")
    reading.feed.publish(attribute("domain", "new.example"))
    assert values(await reading.download()) == {"new.example"}
    reading.options(days="0")
    reading.state = None
    assert values(await reading.download()) == {"old.example", "new.example"}


async def test_names_in_the_manifest_that_are_no_events_become_no_address(reading: Reading) -> None:
    reading.feed.manifest["../../etc/passwd"] = {"timestamp": "5", "date": "2026-11-01"}
    reading.feed.manifest[str(uuid.uuid4())] = {"timestamp": "yesterday", "date": "2026-11-01"}
    reading.feed.manifest[str(uuid.uuid4())] = "nothing"
    reading.feed.publish(attribute("domain", "a.example"))
    download = await reading.download()
    assert values(download) == {"a.example"}
    assert download.refused == 3
    assert len(reading.loopback.asked) == 2


@pytest.mark.parametrize("fault", [Reply(b"", 503), Reply(b"{", 200), Reply(b"[]", 200), Reply(b"", 404), None])
async def test_a_manifest_that_does_not_come_whole_is_refused(reading: Reading, fault: Reply | None) -> None:
    reading.feed.publish(attribute("domain", "a.example"))
    reading.loopback.faults.append(fault)
    with pytest.raises(SourceFailed):
        await reading.download()
    assert reading.state is None


@pytest.mark.parametrize("event", [{}, {"Event": []}, "text"])
async def test_an_event_that_is_none_refuses_the_download(reading: Reading, event: Any) -> None:
    reading.feed.publish(attribute("domain", "a.example"))
    name = reading.feed.publish(attribute("domain", "b.example"))
    reading.feed.events[name] = event
    with pytest.raises(SourceFailed):
        await reading.download()


async def test_a_missing_event_refuses_the_download(reading: Reading) -> None:
    name = reading.feed.publish(attribute("domain", "a.example"))
    del reading.feed.events[name]
    with pytest.raises(SourceFailed, match="404"):
        await reading.download()


async def test_the_key_goes_into_the_header_that_is_wanted(reading: Reading) -> None:
    reading.feed.publish(attribute("domain", "a.example"))
    reading.options(secret="a-key")
    await reading.download()
    assert {asked.headers["authorization"] for asked in reading.loopback.asked} == {"a-key"}
    reading.options(secret="a-key", auth_header="X-Feed-Key")
    reading.loopback.asked.clear()
    reading.state = None
    await reading.download()
    assert {asked.headers["x-feed-key"] for asked in reading.loopback.asked} == {"a-key"}


async def test_the_address_may_name_the_manifest(reading: Reading) -> None:
    reading.feed.publish(attribute("domain", "a.example"))
    config = new_config("misp", address=f"{reading.loopback.url}/feed/manifest.json")
    async with MispFeed(config, "", clock=lambda: NOW).download(loopback_client(), None) as download:
        assert values(download) == {"a.example"}
