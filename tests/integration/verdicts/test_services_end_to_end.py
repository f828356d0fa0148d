"""Services and synchronised feeds all the way: set up, refreshed by a worker, distributed, asked at a click."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.kit.db import Database
from app.settings import Settings
from app.verdicts.asking import SourceDesk, open_desk
from app.verdicts.feed_store import FeedStore
from app.verdicts.judge import judge
from app.verdicts.lists import store_path
from app.verdicts.scoring import Level
from app.verdicts.sources.distribution import FeedFollower
from app.verdicts.sources.publish import build_and_publish
from app.verdicts.sources.refresh import Refreshed, Refresher
from app.verdicts.sources.service import SourceState, add_source, new_config, set_enabled, states
from tests.integration.verdicts.dns_server import serve_dns
from tests.integration.verdicts.google_lists import Lists
from tests.integration.verdicts.loopback import Loopback, Reply, loopback_client, serve
from tests.integration.verdicts.test_misp_source import Feed, attribute
from tests.integration.verdicts.test_taxii_source import FIRST, SECRET, Server, indicator

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EVIL = "http://evil.example/path"


@dataclass
class Installation:
    """A worker with its database, and a gateway's data directory."""

    database: Database
    folder: Path
    now: datetime = START

    async def add(self, kind: str, **values: object) -> str:
        config = new_config(kind, enabled=True, **values)
        async with self.database.untenanted() as session:
            await add_source(session, config)
        return config.name

    async def refresh(self, name: str) -> Refreshed:
        work = self.folder / "work"
        return await Refresher(
            self.database, loopback_client(), work, clock=lambda: self.now, chance=lambda: 0.0
        ).refresh(name)

    async def state(self, name: str) -> SourceState:
        async with self.database.untenanted() as session:
            return next(state for state in await states(session) if state.config.name == name)

    async def follow(self) -> None:
        await FeedFollower(self.database, self.folder / "gateway").catch_up()

    @property
    def desk(self) -> SourceDesk:
        return open_desk(Settings(data_dir=self.folder / "gateway", _env_file=None))

    async def store(self) -> FeedStore:
        await build_and_publish(self.database, self.folder / "work", lambda: self.now)
        await self.follow()
        store = FeedStore(store_path(self.folder / "gateway"))
        store.refresh()
        return store


@pytest.fixture
def installation(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("TEST_KEY", "the-key")
    monkeypatch.setenv("TAXII_KEY", SECRET)
    monkeypatch.setenv("POSTERN_SOURCE_NETWORKS", "127.0.0.0/8")
    return Installation(database, tmp_path)


@pytest.fixture
def google() -> Iterator[tuple[Lists, Loopback]]:
    lists = Lists()
    lists.report("MALWARE", "evil.example/")
    with serve(lists.v5) as server:
        yield lists, server


async def test_a_list_of_prefixes_goes_from_the_service_to_the_click(
    installation: Installation, google: tuple[Lists, Loopback]
) -> None:
    lists, server = google
    name = await installation.add(
        "safe_browsing", address=server.url, secret_ref="env:TEST_KEY", options={"threats": "MALWARE"}
    )
    assert (await installation.refresh(name)).outcome == "taken"
    state = await installation.state(name)
    assert (state.health.entries, state.health.error) == (1, "")
    assert state.health.next_try == installation.now + timedelta(seconds=1800)
    await installation.follow()
    desk = installation.desk
    asked = await desk.ask([EVIL], 20.0)
    verdict = judge(EVIL, source=await installation.store(), more=asked.signals).verdict
    assert verdict.level is Level.MALICIOUS
    assert "Google Safe Browsing warns" in verdict.signals[0].text
    # The next update is a small one, made from the file that the last one left.
    lists.report("MALWARE", "worse.example/")
    installation.now += timedelta(hours=1)
    assert (await installation.refresh(name)).outcome == "taken"
    assert "version" in server.asked[-1].query
    await installation.follow()
    asked = await installation.desk.ask(["http://worse.example/"], 20.0)
    assert [signal.code for signal in asked.signals] == ["reported_malware"]
    await desk.aclose()


async def test_the_key_of_a_service_is_in_no_file_and_no_row(
    installation: Installation, google: tuple[Lists, Loopback], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, server = google
    lists.key = "a-very-secret-key"
    monkeypatch.setenv("TEST_KEY", lists.key)
    name = await installation.add(
        "safe_browsing", address=server.url, secret_ref="env:TEST_KEY", options={"threats": "MALWARE"}
    )
    await installation.refresh(name)
    await installation.follow()
    for path in (installation.folder / "gateway").rglob("*"):
        assert not path.is_file() or b"a-very-secret-key" not in path.read_bytes()
    server.fail(403)
    await installation.refresh(name)
    state = await installation.state(name)
    assert state.health.failures == 1
    assert "a-very-secret-key" not in repr(state)


async def test_googles_back_off_is_kept_between_updates(
    installation: Installation, google: tuple[Lists, Loopback]
) -> None:
    _, server = google
    name = await installation.add(
        "safe_browsing", address=server.url, secret_ref="env:TEST_KEY", options={"threats": "MALWARE"}
    )
    waits = []
    for _ in range(8):
        server.faults.append(Reply(b"", 500))
        await installation.refresh(name)
        next_try = (await installation.state(name)).health.next_try
        assert next_try is not None
        waits.append((next_try - installation.now).total_seconds() / 900)
    # min(2 ** (n - 1) * 15 minutes * (random + 1), 24 hours)
    for number, wait in enumerate(waits):
        assert min(2.0**number, 96) <= wait <= min(2.0 ** (number + 1), 96)


async def test_a_dns_list_is_asked_at_the_click_and_needs_no_download(installation: Installation) -> None:
    with serve_dns() as zone:
        zone.records["evil.example.dbl.test"] = ["127.0.1.5"]
        name = await installation.add("spamhaus_dbl", address="dbl.test", options={"nameservers": zone.address})
        await installation.refresh(name)
        assert (await installation.state(name)).health.error == ""
        assert zone.asked == []
        await installation.follow()
        desk = installation.desk
        assert [signal.code for signal in (await desk.ask([EVIL], 20.0)).signals] == ["reported_malware"]
        async with installation.database.untenanted() as session:
            await set_enabled(session, name, False)
        await installation.follow()
        assert (await installation.desk.ask([EVIL], 20.0)).signals == ()
        await desk.aclose()


async def test_young_names_go_from_the_list_to_the_click(installation: Installation) -> None:
    # The age is that of today, whatever day that is.
    today = datetime.now(UTC).date()
    with serve(lambda asked: Reply(f"young.example,{today.isoformat()}\n".encode())) as server:
        installation.now = datetime.now(UTC)
        name = await installation.add("domain_age", address=f"{server.url}/new.csv")
        assert (await installation.refresh(name)).outcome == "taken"
        await installation.follow()
        asked = await installation.desk.ask(["http://www.young.example/"], 20.0)
    assert next(signal.code for signal in asked.signals) in ("young_today", "young_yesterday")


async def test_a_taxii_collection_becomes_a_part_of_the_store_and_shrinks_with_it(installation: Installation) -> None:
    server = Server(page=2)
    server.objects[FIRST] = [
        indicator("[url:value = 'http://evil.example/path']"),
        indicator("[domain-name:value = 'bad.example']"),
        indicator("[url:value = 'http://third.example/x']"),
        indicator("[file:name = 'x']"),
    ]
    with serve(server.answer) as loopback:
        name = await installation.add("taxii", address=f"{loopback.url}/taxii2/", secret_ref="env:TAXII_KEY")
        assert (await installation.refresh(name)).outcome == "taken"
        store = await installation.store()
        assert judge(EVIL, source=store).verdict.level is Level.MALICIOUS
        assert judge("http://www.bad.example/", source=store).verdict.level is Level.MALICIOUS
        assert (await installation.state(name)).health.refused == 1
        server.objects[FIRST].append(indicator("[domain-name:value = 'bad.example']", revoked=True))
        server.objects[FIRST].append(indicator("[domain-name:value = 'new.example']"))
        installation.now += timedelta(hours=1)
        await installation.refresh(name)
        store = await installation.store()
        assert judge("http://www.bad.example/", source=store).verdict.level is not Level.MALICIOUS
        for url in (EVIL, "http://new.example/", "http://third.example/x"):
            assert judge(url, source=store).verdict.level is Level.MALICIOUS


async def test_a_misp_feed_becomes_a_part_of_the_store_event_by_event(installation: Installation) -> None:
    feed = Feed()
    feed.publish(attribute("url", EVIL), timestamp=100, day=START.date().isoformat())
    with serve(feed.answer) as loopback:
        name = await installation.add("misp", address=f"{loopback.url}/feed/")
        assert (await installation.refresh(name)).outcome == "taken"
        assert judge(EVIL, source=await installation.store()).verdict.level is Level.MALICIOUS
        feed.publish(attribute("hostname", "www.later.example"), timestamp=200, day=START.date().isoformat())
        installation.now += timedelta(hours=1)
        await installation.refresh(name)
        store = await installation.store()
        for url in (EVIL, "http://www.later.example/"):
            found = judge(url, source=store).verdict
            assert found.level is Level.MALICIOUS
            assert found.signals[0].source == "MISP feed"
        assert (await installation.refresh(name)).outcome == "unchanged"
