"""Threat-intelligence sources from the publisher's server to the store that a gateway maps."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text

from app.kit.db import Database
from app.kit.errors import Conflict, NotFound, Refused
from app.kit.postgres import DatabaseUrls
from app.verdicts.feed_store import FeedStore
from app.verdicts.judge import AllSources
from app.verdicts.lists import installed_lists, store_path, store_state
from app.verdicts.scoring import Level
from app.verdicts.sources.client import HttpSourceClient
from app.verdicts.sources.distribution import FeedFollower
from app.verdicts.sources.models import FeedFileRow
from app.verdicts.sources.publish import Published, build_and_publish
from app.verdicts.sources.refresh import Refreshed, Refresher
from app.verdicts.sources.service import (
    SourceState,
    add_source,
    due_sources,
    new_config,
    remove_source,
    review,
    set_enabled,
    states,
)
from tests.integration.verdicts.publishers import (
    KEY,
    Publisher,
    phishtank_csv,
    publisher,
    threatfox_csv,
    urlhaus_csv,
)

pytestmark = pytest.mark.anyio
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MANY = [f"http://h{number}.example/p/{number}" for number in range(400)]


@dataclass
class Installation:
    """One worker and one gateway."""

    database: Database
    folder: Path
    server: Publisher
    now: datetime = START
    client: HttpSourceClient = field(default_factory=lambda: HttpSourceClient(LOOPBACK, seconds=20))

    def clock(self) -> datetime:
        return self.now

    async def add(self, kind: str, name: str = "", *, enabled: bool = True, **values: object) -> str:
        config = new_config(kind, name, enabled=enabled, **values)
        async with self.database.untenanted() as session:
            await add_source(session, config)
        return config.name

    async def refresh(self, name: str) -> Refreshed:
        work = Refresher(
            self.database, self.client, self.folder / "work", {"gw.example"}, self.clock, chance=lambda: 0.0
        )
        return await work.refresh(name)

    async def build(self) -> Published:
        return await build_and_publish(self.database, self.folder / "work", self.clock)

    async def gateway(self) -> FeedStore:
        """A gateway's store after it heard of the newest."""
        await FeedFollower(self.database, self.folder / "gateway").catch_up()
        store = FeedStore(store_path(self.folder / "gateway"))
        store.refresh()
        return store

    async def state(self, name: str) -> SourceState:
        async with self.database.untenanted() as session:
            return next(state for state in await states(session) if state.config.name == name)


@pytest.fixture
def lists() -> Iterator[Publisher]:
    with publisher() as server:
        yield server


@pytest.fixture
def installation(database: Database, tmp_path: Path, lists: Publisher, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("LIST_KEY", KEY)
    return Installation(database, tmp_path, lists)


async def test_each_publishers_format_ends_in_evidence_that_names_it(installation: Installation) -> None:
    lists = installation.server
    haus = lists.publish(f"/{KEY}/recent.csv", urlhaus_csv(["http://evil.example/bins/a.sh"]))
    await installation.add("urlhaus", address=haus.replace(KEY, "{key}"), secret_ref="env:LIST_KEY")
    fox = lists.publish(
        f"/fox/{KEY}/recent.csv",
        threatfox_csv(
            [("c2.example", "domain", 100), ("198.51.100.9:443", "ip:port", 100), ("no.example", "domain", 10)]
        ),
    )
    await installation.add("threatfox", address=fox.replace(KEY, "{key}"), secret_ref="env:LIST_KEY")
    phish = lists.publish(
        f"/tank/{KEY}/online-valid.csv.gz",
        phishtank_csv(["https://phish.example/a", "https://gone.example/"], lambda url: "gone" not in url),
        content_type="application/gzip",
    )
    await installation.add("phishtank", address=phish.replace(KEY, "{key}"), secret_ref="env:LIST_KEY")
    opened = lists.publish("/feed.txt", "https://open.example/login\n\n", packed=True)
    await installation.add("openphish", address=opened)
    own = installation.folder / "own list.json"
    own.write_text('[{"where": "https://mine.example/x", "date_added": "2026-01-02"}]')
    await installation.add("list", "Ours", address=f"file:{str(own).replace(' ', '%20')}", options={"column": "where"})

    for name in ("URLhaus", "ThreatFox", "PhishTank", "OpenPhish", "Ours"):
        assert (await installation.refresh(name)).outcome == "taken", name
    assert (await installation.build()).entries == 5

    store = await installation.gateway()
    found = {
        url: [(signal.source, dict(signal.fields).get("since"), signal.decides) for signal in store.signals(url)]
        for url in (
            "http://evil.example/bins/a.sh?x",
            "https://www.c2.example/",
            "https://phish.example/a",
            "https://open.example/login",
            "https://mine.example/x",
            "https://no.example/",
            "https://gone.example/",
            "http://198.51.100.9/",
        )
    }
    assert found == {
        "http://evil.example/bins/a.sh?x": [("URLhaus", "2026-11-20", Level.MALICIOUS)],
        "https://www.c2.example/": [("ThreatFox", "2026-11-19", Level.MALICIOUS)],
        "https://phish.example/a": [("PhishTank", "2026-11-18", Level.MALICIOUS)],
        "https://open.example/login": [("OpenPhish", "2026-11-21", Level.MALICIOUS)],
        "https://mine.example/x": [("Ours", "2026-01-02", Level.MALICIOUS)],
        "https://no.example/": [],
        "https://gone.example/": [],
        "http://198.51.100.9/": [],
    }
    sentence = store.signals("http://evil.example/bins/a.sh")[0].text
    assert sentence == (
        "The address evil.example/bins/a.sh is on a list of dangerous sites (URLhaus, since 2026-11-20)."
    )


async def test_a_list_is_asked_for_only_if_it_changed(installation: Installation) -> None:
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "L", address=address)
    assert (await installation.refresh("L")).outcome == "taken"
    await installation.build()
    assert (await installation.refresh("L")).outcome == "unchanged"
    assert [asked.status for asked in installation.server.asked] == [200, 304]
    assert await installation.build() == Published()
    installation.server.publish("/list", "b.example\n")
    assert (await installation.refresh("L")).outcome == "taken"
    await installation.build()
    store = await installation.gateway()
    assert not store.signals("http://a.example/")
    assert store.signals("http://b.example/")


async def test_what_is_listed_still_keeps_the_day_it_was_seen_first(installation: Installation) -> None:
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    installation.now += timedelta(days=10)
    installation.server.publish("/list", "a.example\nb.example\n")
    await installation.refresh("L")
    await installation.build()
    store = await installation.gateway()
    dates = [dict(store.signals(f"http://{name}.example/")[0].fields)["since"] for name in "ab"]
    assert dates == ["2026-11-21", "2026-12-01"]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"cut_at": 900}, "cut off"),
        ({"cut_at": 900, "chunked": True}, "cut off"),
        ({"cut_at": 60, "packed": True}, "cut off"),
        ({"status": 503}, "error 503"),
        ({"status": 404}, "status 404"),
        ({"status": 403}, "does not accept the key"),
    ],
)
async def test_a_download_that_fails_leaves_what_was_there(
    installation: Installation, values: dict[str, Any], word: str
) -> None:
    address = installation.server.publish("/list", "\n".join(MANY))
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    installation.server.publish("/list", "\n".join([*MANY, "http://new.example/"]), **values)
    done = await installation.refresh("L")
    assert done.outcome == "failed"
    assert word in done.why
    assert await installation.build() == Published()
    store = await installation.gateway()
    assert len(store) == len(MANY)
    state = await installation.state("L")
    assert (state.health.failures, state.health.entries, state.health.error) == (1, len(MANY), done.why)


async def test_a_gzip_file_that_was_cut_when_it_was_published_is_not_used(installation: Installation) -> None:
    whole = phishtank_csv(MANY)
    address = installation.server.publish("/t.csv.gz", whole[: len(whole) // 2])
    await installation.add("list", "L", address=address)
    done = await installation.refresh("L")
    assert (done.outcome, done.why) == ("failed", "The compressed list is cut off; none of it was used.")


async def test_a_zip_archive_of_one_list_is_read(installation: Installation) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("full.csv", urlhaus_csv(["http://zip.example/x"]))
    address = installation.server.publish("/full.csv.zip", packed.getvalue(), content_type="application/zip")
    await installation.add("list", "L", address=address)
    assert await installation.refresh("L") == Refreshed("taken", 1)


async def test_failures_are_tried_again_later_and_later_and_a_publishers_wish_counts(
    installation: Installation,
) -> None:
    address = installation.server.publish("/list", "", status=500)
    await installation.add("list", "L", address=address, every_seconds=600)
    waits = []
    for _ in range(4):
        await installation.refresh("L")
        state = await installation.state("L")
        assert state.health.next_try is not None
        waits.append((state.health.next_try - installation.now).total_seconds())
    assert waits == [60, 120, 240, 480]
    installation.server.publish("/list", "", status=429, headers={"Retry-After": "7200"})
    await installation.refresh("L")
    state = await installation.state("L")
    assert state.health.next_try == installation.now + timedelta(seconds=7200)
    installation.server.publish("/list", "a.example\n")
    await installation.refresh("L")
    state = await installation.state("L")
    assert (state.health.failures, state.health.error) == (0, "")
    assert state.health.next_try == installation.now + timedelta(seconds=600)
    async with installation.database.untenanted() as session:
        assert await due_sources(session, installation.now) == []
        assert await due_sources(session, installation.now + timedelta(seconds=600)) == ["L"]


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("google.com", "lists the whole of google.com"),
        ("https://www.paypal.com/", "lists the whole of www.paypal.com"),
        ("http://github.io", "lists the whole of github.io"),
        ("co.uk", "lists the whole of co.uk"),
        ("https://gw.example/", "lists the whole of gw.example"),
    ],
)
async def test_a_list_that_would_block_what_everybody_uses_is_held(
    installation: Installation, poison: str, reason: str
) -> None:
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    installation.server.publish("/list", f"a.example\nb.example\n{poison}\n")
    done = await installation.refresh("L")
    assert done.outcome == "held"
    assert reason in done.why
    assert await installation.build() == Published()
    store = await installation.gateway()
    assert store.signals("http://a.example/")
    assert not store.signals("http://b.example/")
    state = await installation.state("L")
    assert reason in state.reasons[0]
    assert (state.health.entries, state.health.error) == (1, "")


@pytest.mark.parametrize("text", ["\n".join(MANY[:40]), "", "<html>We moved</html>\n" * 3])
async def test_a_list_that_shrinks_to_a_tenth_or_to_nothing_is_held(installation: Installation, text: str) -> None:
    address = installation.server.publish("/list", "\n".join(MANY))
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    installation.server.publish("/list", text)
    assert (await installation.refresh("L")).outcome == "held"
    assert await installation.build() == Published()
    assert len(await installation.gateway()) == len(MANY)
    # It is not downloaded again and again while it waits.
    assert (await installation.refresh("L")).outcome == "unchanged"
    assert (await installation.state("L")).reasons


async def test_a_held_list_is_used_once_it_is_accepted(installation: Installation) -> None:
    address = installation.server.publish("/list", "\n".join(MANY))
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    installation.server.publish("/list", "only.example\n")
    await installation.refresh("L")
    async with installation.database.untenanted() as session:
        assert await review(session, "L", accept=True) == 1
    assert (await installation.build()).entries == 1
    store = await installation.gateway()
    assert store.signals("http://only.example/")
    assert not (await installation.state("L")).reasons
    async with installation.database.untenanted() as session:
        with pytest.raises(NotFound, match="Nothing of L is held"):
            await review(session, "L", accept=True)


async def test_a_discarded_list_is_not_taken_before_it_changes(installation: Installation) -> None:
    address = installation.server.publish("/list", "\n".join(MANY))
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    installation.server.publish("/list", "google.com\n")
    await installation.refresh("L")
    async with installation.database.untenanted() as session:
        await review(session, "L", accept=False)
    assert (await installation.refresh("L")).outcome == "unchanged"
    assert len(await installation.gateway()) == len(MANY)
    installation.server.publish("/list", "\n".join([*MANY, "http://more.example/"]))
    assert (await installation.refresh("L")).outcome == "taken"


async def test_a_good_list_takes_the_place_of_one_that_is_held(installation: Installation) -> None:
    address = installation.server.publish("/list", "google.com\n")
    await installation.add("list", "L", address=address)
    assert (await installation.refresh("L")).outcome == "held"
    installation.server.publish("/list", "a.example\n")
    assert (await installation.refresh("L")).outcome == "taken"
    assert not (await installation.state("L")).reasons


async def test_switching_a_source_off_takes_its_entries_out_and_leaves_the_others(installation: Installation) -> None:
    for name in "ab":
        await installation.add("list", name, address=installation.server.publish(f"/{name}", f"{name}.example\n"))
        await installation.refresh(name)
    await installation.build()
    async with installation.database.untenanted() as session:
        await set_enabled(session, "a", False)
    assert (await installation.refresh("a")).outcome == "off"
    await installation.build()
    store = await installation.gateway()
    assert not store.signals("http://a.example/")
    assert store.signals("http://b.example/")
    async with installation.database.untenanted() as session:
        await set_enabled(session, "a", True)
    assert (await installation.refresh("a")).outcome == "taken"
    async with installation.database.untenanted() as session:
        await remove_source(session, "b")
    await installation.build()
    store = await installation.gateway()
    assert store.signals("http://a.example/")
    assert not store.signals("http://b.example/")


async def test_a_source_with_less_weight_adds_points_and_decides_nothing(installation: Installation) -> None:
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "Noisy", address=address, weight=30, level=Level.SUSPICIOUS)
    await installation.refresh("Noisy")
    await installation.build()
    (signal,) = (await installation.gateway()).signals("http://a.example/")
    assert (signal.weight, signal.decides, signal.code) == (30, None, "listed_suspicious_since")


async def test_entries_that_are_none_are_counted_and_named(installation: Installation) -> None:
    address = installation.server.publish("/list", "a.example\nnot an address\nb.example\n")
    await installation.add("list", "L", address=address)
    assert await installation.refresh("L") == Refreshed("taken", 2)
    state = await installation.state("L")
    assert (state.health.refused, state.problems) == (1, ("L:2: not a host or an address",))


async def test_private_networks_are_asked_only_where_the_operator_allows_it(installation: Installation) -> None:
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "L", address=address)
    installation.client = HttpSourceClient()
    done = await installation.refresh("L")
    assert done.outcome == "failed"
    assert "POSTERN_SOURCE_NETWORKS" in done.why
    assert installation.server.asked == []


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("http://127.0.0.2:1/list", "network that is not public"),
        ("http://169.254.169.254/latest/meta-data/", "network that is not public"),
        ("ftp://lists.example/list", "not an http or https one"),
        ("http://user:pass@127.0.0.1/", "holds a name or a password"),
        ("/list", "sent on more than 3 times"),
    ],
)
async def test_a_publisher_cannot_send_a_download_where_the_operator_did_not_allow_it(
    installation: Installation, target: str, word: str
) -> None:
    address = installation.server.publish("/list", "", status=302, headers={"Location": target})
    await installation.add("list", "L", address=address)
    installation.client = HttpSourceClient((ipaddress.ip_network("127.0.0.1/32"),))
    done = await installation.refresh("L")
    assert done.outcome == "failed"
    assert word in done.why


async def test_a_list_that_is_too_large_is_not_used(installation: Installation) -> None:
    address = installation.server.publish("/list", "\n".join(MANY), packed=True)
    await installation.add("list", "L", address=address)
    installation.client = HttpSourceClient(LOOPBACK, max_bytes=1_000)
    done = await installation.refresh("L")
    assert done.why == "The list of 127.0.0.1 is larger than 0 MB; none of it was used."


async def test_a_key_is_sent_where_it_belongs_and_shown_nowhere(installation: Installation) -> None:
    with publisher() as elsewhere:
        target = elsewhere.publish("/moved", "a.example\n")
        first = installation.server.publish("/list", "", status=302, headers={"Location": target})
        await installation.add(
            "list", "L", address=first, secret_ref="env:LIST_KEY", options={"key_header": "Auth-Key"}
        )
        assert (await installation.refresh("L")).outcome == "taken"
        assert installation.server.asked[0].headers["auth-key"] == KEY
        assert "auth-key" not in elsewhere.asked[0].headers
    done = await installation.refresh("L")
    assert done.outcome == "failed"
    async with installation.database.untenanted() as session:
        rows = (await session.execute(text("SELECT to_jsonb(s)::text FROM threat_sources s"))).scalars().all()
    assert KEY not in "".join(rows) + done.why


async def test_a_missing_key_is_said_and_nothing_is_asked(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIST_KEY")
    await installation.add("urlhaus", address=f"{installation.server.url}/{{key}}/x", secret_ref="env:LIST_KEY")
    done = await installation.refresh("URLhaus")
    assert done.why == "The environment variable LIST_KEY is not set. The source was not asked."
    assert installation.server.asked == []


async def test_only_one_store_and_the_one_before_are_kept(installation: Installation) -> None:
    for number in range(4):
        address = installation.server.publish("/list", f"h{number}.example\n")
        if number == 0:
            await installation.add("list", "L", address=address)
        await installation.refresh("L")
        await installation.build()
    async with installation.database.untenanted() as session:
        kinds = list(await session.scalars(select(FeedFileRow.kind).order_by(FeedFileRow.id)))
        chunks = (await session.execute(text("SELECT count(DISTINCT file_id) FROM feed_chunks"))).scalar_one()
    assert (kinds, chunks) == (["store", "store"], 2)


async def test_what_is_new_is_counted_so_that_delivered_mail_is_looked_at_again(
    installation: Installation, database: Database
) -> None:
    address = installation.server.publish("/list", "a.example\nsuspicious\tb.example\n")
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    assert (await installation.build()).added == 2
    jobs = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'feeds.swapped'")
    async with database.untenanted() as session:
        assert (await session.execute(jobs)).scalar_one() == 1
        await session.execute(text("UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'feeds.swapped'"))
    installation.server.publish("/list", "malicious\tb.example\n")
    await installation.refresh("L")
    assert (await installation.build()).added == 1  # it is worse than before
    installation.server.publish("/list", "suspicious\tb.example\n")
    await installation.refresh("L")
    assert (await installation.build()).added == 0


async def test_a_gateway_keeps_its_file_when_the_database_has_none(installation: Installation) -> None:
    await installation.add("list", "L", address=installation.server.publish("/list", "a.example\n"))
    await installation.refresh("L")
    await installation.build()
    store = await installation.gateway()
    assert store.signals("http://a.example/")
    async with installation.database.untenanted() as session:
        await session.execute(text("DELETE FROM feed_files"))
    await FeedFollower(installation.database, installation.folder / "gateway").catch_up()
    lists = installed_lists(None, installation.folder / "gateway")
    assert store_state(lists) == {"entries": 1, "version": 1, "made_at": "2026-11-21T12:00:00+00:00"}
    assert lists.signals("http://a.example/")
    assert store_state(installed_lists(None, installation.folder / "nowhere")) == {}


async def test_a_damaged_file_is_not_swapped_in(installation: Installation) -> None:
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    await installation.gateway()
    installation.server.publish("/list", "b.example\n")
    await installation.refresh("L")
    await installation.build()
    async with installation.database.untenanted() as session:
        newest = "(SELECT max(id) FROM feed_files WHERE kind = 'store')"
        await session.execute(text(f"UPDATE feed_files SET sha256 = '\\x00' WHERE id = {newest}"))
    store = await installation.gateway()
    assert store.signals("http://a.example/")
    left = sorted(path.name for path in store_path(installation.folder / "gateway").parent.iterdir())
    assert left == [".lock", "have.json", "sources.json", "store.pfs"]


@pytest.mark.parametrize("place", [0, 1])
async def test_a_piece_that_was_changed_on_the_way_is_not_swapped_in(
    installation: Installation, database_urls: DatabaseUrls, place: int
) -> None:
    """Of the length that was announced and with another content: only the SHA-256 tells."""
    address = installation.server.publish("/list", "a.example\n")
    await installation.add("list", "L", address=address)
    await installation.refresh("L")
    await installation.build()
    assert (await installation.gateway()).signals("http://a.example/")
    many = "\n".join(f"b{number}.example" for number in range(120_000))
    installation.server.publish("/list", f"b.example\n{many}")
    await installation.refresh("L")
    async with installation.database.untenanted() as session:
        if (await installation.state("L")).reasons:
            await review(session, "L", accept=True)
    await installation.build()
    newest = "(SELECT max(id) FROM feed_files WHERE kind = 'store')"
    flip = f"set_byte(data, 60000, get_byte(data, 60000) # 1) WHERE file_id = {newest} AND no = {place}"
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute(f"UPDATE feed_chunks SET data = {flip}").rowcount == 1
    store = await installation.gateway()
    assert store.signals("http://a.example/")
    assert not store.signals("http://b.example/")
    left = sorted(path.name for path in store_path(installation.folder / "gateway").parent.iterdir())
    assert left == [".lock", "have.json", "sources.json", "store.pfs"]
    # Whole again, it is taken: nothing was marked as had.
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute(f"UPDATE feed_chunks SET data = {flip}")
    assert (await installation.gateway()).signals("http://b.example/")


@pytest.mark.parametrize(
    ("kind", "values", "word"),
    [
        ("nope", {}, "no kind of source"),
        ("urlhaus", {}, "wants a key"),
        ("list", {}, "needs an address"),
        ("list", {"address": "https://user:secret@h.example/"}, "--key"),
        ("list", {"address": "https://h.example/", "secret_ref": "hunter2"}, "env:NAME or file:PATH"),
        ("list", {"address": "https://h.example/", "every_seconds": 1}, "every 60 seconds at most"),
        ("list", {"address": "https://h.example/", "weight": 0}, "weight"),
        ("list", {"address": "https://h.example/", "options": {"x": "y"}}, "no option x"),
    ],
)
async def test_a_source_that_cannot_work_is_refused(
    installation: Installation, kind: str, values: dict[str, Any], word: str
) -> None:
    with pytest.raises(Refused, match=word):
        await installation.add(kind, "L", **values)


async def test_two_sources_of_one_name_are_refused(installation: Installation) -> None:
    await installation.add("list", "L", address="https://h.example/")
    with pytest.raises(Conflict, match="already"):
        await installation.add("list", "L", address="https://h.example/")


async def test_a_gateway_hears_of_a_new_store_and_goes_on_after_the_database_was_away(
    installation: Installation, database: Database
) -> None:
    await installation.add("list", "L", address=installation.server.publish("/list", "a.example\n"))
    following = asyncio.create_task(FeedFollower(database, installation.folder / "gateway").run())
    lists = installed_lists(None, installation.folder / "gateway")
    try:
        await installation.refresh("L")
        await installation.build()
        await asyncio.wait_for(_until_listed(lists, "http://a.example/"), 30)
        async with database.untenanted() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
                )
            )
        installation.server.publish("/list", "b.example\n")
        await installation.refresh("L")
        await installation.build()
        await asyncio.wait_for(_until_listed(lists, "http://b.example/"), 30)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _until_listed(lists: AllSources, url: str) -> None:
    # The file is swapped by another task: there is no event for it here.
    while not lists.signals(url):
        await asyncio.sleep(0.02)
        lists.refresh()
