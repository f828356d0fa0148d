"""TAXII 2.1 against a server that speaks it: discovery, collections, pages, increments, and what does not count."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.verdicts.sources.service import new_config
from app.verdicts.sources.taxii import MAX_ENDING, MEDIA_TYPE, TaxiiSource
from app.verdicts.sources.types import Download, SourceFailed
from tests.integration.verdicts.loopback import Asked, Loopback, Reply, loopback_client, serve

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FIRST = "91a7b528-80eb-42ed-a74d-c6fbd5a26116"
SECOND = "52892447-4d7e-4f70-b94d-d7f22742ff63"
SECRET = "user:password"


def indicator(pattern: str, **values: Any) -> dict[str, Any]:
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--{abs(hash(pattern)):x}",
        "created": "2026-11-01T00:00:00.000Z",
        "modified": "2026-11-01T00:00:00.000Z",
        "valid_from": "2026-11-01T00:00:00Z",
        "pattern": pattern,
        "pattern_type": "stix",
        **values,
    }


def url(value: str) -> str:
    return f"[url:value = '{value}']"


@dataclass
class Server:
    """A TAXII 2.1 server.

    Attributes:
        objects: Collection id -> objects in the order in which they were added, one a second.
        page: Objects a page.
        tokens: Whether pages are asked for by ``next``; otherwise by ``added_after`` alone.
        dates: Whether the header with the date of the last object is sent.
        api_roots: As the discovery names them.
    """

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {FIRST: [], SECOND: []})
    page: int = 3
    tokens: bool = True
    dates: bool = True
    api_roots: list[str] = field(default_factory=lambda: ["/root/"])

    def answer(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != "Basic " + base64.b64encode(SECRET.encode()).decode():
            return Reply(b"{}", 401)
        assert asked.headers["accept"] == MEDIA_TYPE
        if asked.path == "/taxii2/":
            return self._reply({"title": "Some server", "default": self.api_roots[0], "api_roots": self.api_roots})
        if asked.path == "/root/":
            return self._reply({"title": "Root", "versions": [MEDIA_TYPE], "max_content_length": 1 << 20})
        collections = [
            {"id": FIRST, "title": "High value", "alias": "high", "can_read": True, "can_write": False},
            {"id": SECOND, "title": "Others", "can_read": True, "can_write": False},
            {"id": "e1e5c0ff-0000-4000-8000-000000000000", "title": "Write only", "can_read": False, "can_write": True},
        ]
        if asked.path == "/root/collections/":
            return self._reply({"collections": collections})
        for collection in collections:
            if asked.path == f"/root/collections/{collection['id']}/":
                return self._reply(collection)
            if asked.path == f"/root/collections/{collection['id']}/objects/":
                return self._objects(str(collection["id"]), asked)
        return Reply(b"{}", 404)

    def _reply(self, data: Any, **headers: str) -> Reply:
        return Reply(json.dumps(data).encode(), 200, {"Content-Type": MEDIA_TYPE, **headers})

    def _objects(self, collection: str, asked: Asked) -> Reply:
        assert asked.query["match[type]"] == ["indicator"]
        known = self.objects[collection]
        at = 0
        if "added_after" in asked.query:
            after = asked.query["added_after"][0]
            at = next((place for place in range(len(known)) if added(place) > after), len(known))
        if "next" in asked.query:
            at = int(asked.query["next"][0].removeprefix("place-"))
        part = known[at : at + self.page]
        more = at + self.page < len(known)
        envelope: dict[str, Any] = {"more": more, "objects": part}
        if more and self.tokens:
            envelope["next"] = f"place-{at + self.page}"
        headers = {"X-TAXII-Date-Added-Last": added(at + len(part) - 1)} if part and self.dates else {}
        # An empty envelope is an empty object (section 3.7).
        return self._reply(envelope if part else {}, **headers)


def added(place: int) -> str:
    return (datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=place)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


@dataclass
class Polling:
    """A source, its server, and what was taken so far, as the framework keeps it."""

    server: Server
    loopback: Loopback
    source: TaxiiSource
    now: datetime = NOW
    state: bytes | None = None
    listed: set[str] = field(default_factory=set)

    async def poll(self) -> Download:
        download = await self.source.poll(loopback_client(), self.state)
        if download.whole:
            self.listed = set()
        self.listed |= {entry.value for entry in download.entries}
        self.listed -= set(download.removed)
        self.state = download.state
        assert len(self.state) < 65_536
        return download

    def options(self, **options: Any) -> None:
        config = new_config("taxii", address=f"{self.loopback.url}/taxii2/", options=options)
        self.source = TaxiiSource(config, SECRET, clock=lambda: self.now)


@pytest.fixture
def polling() -> Iterator[Polling]:
    server = Server()
    with serve(server.answer) as loopback:
        config = new_config("taxii", address=f"{loopback.url}/taxii2/")
        made = Polling(server, loopback, TaxiiSource(config, SECRET))
        made.options()
        yield made


@pytest.mark.parametrize("tokens", [True, False])
async def test_all_pages_of_all_readable_collections_are_read(polling: Polling, tokens: bool) -> None:
    polling.server.tokens = tokens
    polling.server.objects[FIRST] = [indicator(url(f"http://evil-{number}.example/")) for number in range(10)]
    polling.server.objects[SECOND] = [indicator("[domain-name:value = 'evil.example']")]
    download = await polling.poll()
    assert download.whole
    assert polling.listed == {*(f"http://evil-{number}.example/" for number in range(10)), "evil.example"}
    assert download.refused == 0
    entry = next(iter(download.entries))
    assert entry.since is not None
    assert entry.since.isoformat() == "2026-11-01"
    assert not any("Write only" in path for path in polling.loopback.paths())


async def test_later_polls_ask_only_for_what_was_added_since(polling: Polling) -> None:
    polling.server.objects[FIRST] = [indicator(url(f"http://evil-{number}.example/")) for number in range(4)]
    await polling.poll()
    download = await polling.poll()
    assert download.unchanged
    polling.server.objects[FIRST].append(indicator(url("http://new.example/")))
    download = await polling.poll()
    assert not download.whole
    assert [entry.value for entry in download.entries] == ["http://new.example/"]
    assert len(polling.listed) == 5


async def test_once_a_day_everything_is_asked_for(polling: Polling) -> None:
    polling.server.objects[FIRST] = [indicator(url("http://old.example/"))]
    await polling.poll()
    # Changed in place: what it said before is only forgotten with the next whole poll.
    polling.server.objects[FIRST] = [indicator(url("http://changed.example/"))]
    polling.now += timedelta(hours=25)
    download = await polling.poll()
    assert download.whole
    assert polling.listed == {"http://changed.example/"}


async def test_revoked_and_ended_indicators_are_taken_off(polling: Polling) -> None:
    polling.server.objects[FIRST] = [
        indicator(url("http://stays.example/")),
        indicator(url("http://revoked.example/")),
        indicator(url("http://ends.example/"), valid_until="2026-11-21T13:00:00Z"),
        indicator(url("http://ended.example/"), valid_until="2026-11-20T00:00:00Z"),
        indicator(url("http://never.example/"), revoked=True),
    ]
    await polling.poll()
    assert polling.listed == {"http://stays.example/", "http://revoked.example/", "http://ends.example/"}
    polling.server.objects[FIRST].append(indicator(url("http://revoked.example/"), revoked=True))
    await polling.poll()
    assert polling.listed == {"http://stays.example/", "http://ends.example/"}
    polling.now += timedelta(hours=2)
    download = await polling.poll()
    assert not download.whole
    assert list(download.removed) == ["http://ends.example/"]
    assert polling.listed == {"http://stays.example/"}


async def test_more_endings_than_can_be_remembered_bring_the_whole_poll_forward(polling: Polling) -> None:
    polling.server.page = 1000
    ends = [NOW + timedelta(minutes=number + 1) for number in range(MAX_ENDING + 50)]
    polling.server.objects[FIRST] = [
        indicator(url(f"http://{number}.example/"), valid_until=moment.isoformat())
        for number, moment in enumerate(ends)
    ]
    await polling.poll()
    polling.now = ends[MAX_ENDING + 20] + timedelta(seconds=1)
    download = await polling.poll()
    assert download.whole
    assert polling.listed == {f"http://{number}.example/" for number in range(MAX_ENDING + 21, MAX_ENDING + 50)}


async def test_what_does_not_count_is_named(polling: Polling) -> None:
    polling.server.page = 100
    polling.server.objects[FIRST] = [
        indicator(url("http://sure.example/"), confidence=90),
        indicator(url("http://says-nothing.example/")),
        indicator(url("http://unsure.example/"), confidence=20),
        indicator(url("http://benign.example/"), indicator_types=["benign"]),
        indicator(url("http://later.example/"), valid_from="2027-06-01T00:00:00Z"),
        indicator("alert tcp any any", pattern_type="snort"),
        indicator("[file:hashes.MD5 = 'abc']"),
        indicator("[url:value = 'http://and.example/' AND url:value = 'x']"),
        indicator("this is no pattern"),
        {"type": "malware", "id": "malware--1", "name": "http://not-an-indicator.example/"},
        "not an object",
    ]
    download = await polling.poll()
    assert polling.listed == {"http://sure.example/", "http://says-nothing.example/"}
    assert download.refused == 7
    problems = "\n".join(download.problems)
    for word in ("confidence of 20", "benign", "not valid yet", "snort", "file:hashes.MD5", "AND", "stands where"):
        assert word in problems


async def test_collections_are_chosen_by_id_alias_or_title(polling: Polling) -> None:
    polling.server.objects[FIRST] = [indicator(url("http://first.example/"))]
    polling.server.objects[SECOND] = [indicator(url("http://second.example/"))]
    for chosen, expected in ((FIRST, "first"), ("high", "first"), ("Others", "second")):
        polling.options(collections=chosen)
        polling.state = None
        await polling.poll()
        assert polling.listed == {f"http://{expected}.example/"}
    polling.options(collections="High value, Nonsense")
    with pytest.raises(SourceFailed, match="Nonsense"):
        await polling.poll()


async def test_the_address_may_be_an_api_root_or_a_collection(polling: Polling) -> None:
    polling.server.objects[FIRST] = [indicator(url("http://first.example/"))]
    for address in (f"/root/collections/{FIRST}/", f"/root/collections/{FIRST}", "/root/"):
        config = new_config("taxii", address=polling.loopback.url + address)
        polling.source = TaxiiSource(config, SECRET, clock=lambda: NOW)
        polling.state = None
        download = await polling.poll()
        assert [entry.value for entry in download.entries] == ["http://first.example/"]


async def test_an_api_root_on_another_server_does_not_get_the_key(polling: Polling) -> None:
    with serve(lambda asked: Reply(b"{}", 200)) as other:
        polling.server.api_roots = [f"{other.url}/root/"]
        with pytest.raises(SourceFailed) as failed:
            await polling.poll()
        assert failed.value.reason == "address"
        assert other.asked == []


async def test_a_fault_in_the_middle_leaves_everything_as_it_was(polling: Polling) -> None:
    polling.server.objects[FIRST] = [indicator(url(f"http://evil-{number}.example/")) for number in range(9)]
    await polling.poll()
    before = polling.state
    polling.now += timedelta(hours=25)
    for fault in (None, Reply(b"{}", 503), Reply(b"not json"), Reply(b"[]"), Reply(b'{"objects": 5}')):

        def failing(asked: Asked, fault: Reply | None = fault) -> Reply:
            # Discovery and collections are answered; the second page is not.
            if "next" in asked.query and fault is not None:
                return fault
            return polling.server.answer(asked)

        with serve(failing) as loopback:
            config = new_config("taxii", address=f"{loopback.url}/taxii2/")
            polling.source = TaxiiSource(config, SECRET, clock=lambda: polling.now)
            if fault is None:
                loopback.cut_off()
            with pytest.raises(SourceFailed):
                await polling.poll()
        assert polling.state == before
        assert len(polling.listed) == 9


async def test_more_without_saying_how_is_refused(polling: Polling) -> None:
    polling.server.tokens = polling.server.dates = False
    polling.server.objects[FIRST] = [indicator(url(f"http://evil-{number}.example/")) for number in range(9)]
    with pytest.raises(SourceFailed, match="does not say how"):
        await polling.poll()


async def test_a_wrong_key_is_refused_without_naming_it(polling: Polling) -> None:
    config = new_config("taxii", address=f"{polling.loopback.url}/taxii2/")
    with pytest.raises(SourceFailed) as failed:
        await TaxiiSource(config, "user:wrong-secret").poll(loopback_client(), None)
    assert failed.value.reason == "refused"
    assert "wrong-secret" not in str(failed.value)


async def test_a_state_that_cannot_be_read_brings_everything(polling: Polling) -> None:
    polling.server.objects[FIRST] = [indicator(url("http://evil.example/"))]
    polling.state = b"rubbish"
    assert (await polling.poll()).whole
