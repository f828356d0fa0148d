"""Whatever a server sends, a source gives something or says why not; nothing else is raised."""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.asking import target_of
from app.verdicts.canonical import expression_digest
from app.verdicts.sources.files import FileSource, file_name
from app.verdicts.sources.registry import make_list_source, make_signal_source
from app.verdicts.sources.safe_browsing_prefixes import PrefixList, dump, short_prefixes
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import Answer, FetchedFile, SourceFailed

UUID = "5f9d88a9-0b9c-4b0e-8e55-3d1f00000001"
INDICATOR = {
    "type": "indicator",
    "id": "indicator--1",
    "pattern": "[url:value = 'http://evil.example/']",
    "pattern_type": "stix",
    "valid_from": "2026-11-01T00:00:00Z",
    "valid_until": "2026-12-01T00:00:00Z",
    "revoked": False,
    "confidence": 80,
    "indicator_types": ["malicious-activity"],
}
TAXII = [
    {"title": "A server", "default": "/root/", "api_roots": ["/root/"]},
    {"collections": [{"id": "one", "title": "One", "can_read": True}]},
    {"more": True, "next": "two", "objects": [INDICATOR]},
    {"more": False, "objects": [INDICATOR]},
]
ATTRIBUTE = {"uuid": UUID, "type": "url", "value": "http://evil.example/", "to_ids": True, "first_seen": "2026-11-01"}
MISP = [
    {UUID: {"timestamp": "1700000000", "date": "2026-11-01"}},
    {"Event": {"date": "2026-11-01", "Attribute": [ATTRIBUTE], "Object": [{"Attribute": [ATTRIBUTE]}]}},
]
RICE = {"firstValue": "1", "riceParameter": 2, "numEntries": 1, "entryCount": 1, "encodedData": "AAAAAA=="}
RAW = {"prefixSize": 4, "rawHashes": "AAAAAA=="}
UPDATE = {
    "threatType": "MALWARE",
    "platformType": "ANY_PLATFORM",
    "threatEntryType": "URL",
    "responseType": "PARTIAL_UPDATE",
    "newClientState": "AAAA",
    "checksum": {"sha256": "AAAA"},
    "additions": [{"rawHashes": RAW}, {"riceHashes": RICE}],
    "removals": [{"rawIndices": {"indices": [0]}}, {"riceIndices": RICE}],
}
UPDATES = {
    "safe_browsing_v4": {"listUpdateResponses": [UPDATE], "minimumWaitDuration": "300s"},
    "web_risk": {
        "responseType": "DIFF",
        "newVersionToken": "AAAA",
        "checksum": {"sha256": "AAAA"},
        "recommendedNextDiff": "2030-01-01T00:00:00Z",
        "additions": {"rawHashes": [RAW], "riceHashes": RICE},
        "removals": {"rawIndices": {"indices": [0]}, "riceIndices": RICE},
    },
    "safe_browsing": {},
}
HASH = base64.b64encode(bytes(32)).decode()
ANSWERS = {
    "safe_browsing_v4": {
        "matches": [{"threatType": "MALWARE", "threat": {"hash": HASH}, "cacheDuration": "300s"}],
        "negativeCacheDuration": "300s",
        "minimumWaitDuration": "300s",
    },
    "web_risk": {
        "threats": [{"hash": HASH, "threatTypes": ["MALWARE"], "expireTime": "2030-01-01T00:00:00Z"}],
        "negativeExpireTime": "2030-01-01T00:00:00Z",
    },
    "safe_browsing": {},
}
ODD = [
    None, True, 0, -1, 7, 2**31, 2**64, 10**30, 1e300, float("inf"), float("nan"), "", "x", "²", "9" * 5000, "!",
    "http://[::1", "//other.example/", "[", "[url:value = 'a' AND url:value = 'b']", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "999999999.999999999s", "-5s", [], [5], ["x"], [None], [[]], {}, {"x": 5}, [{}], {"": None},
]  # fmt: skip


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in a document."""
    yield at
    if isinstance(data, dict):
        for name, value in data.items():
            yield from places(value, (*at, name))
    elif isinstance(data, list):
        for place, value in enumerate(data):
            yield from places(value, (*at, place))


def altered(document: Any) -> Iterator[Any]:
    """The document with each odd thing in each place, and without each of its members."""
    for path in places(document):
        for odd in ODD:
            if not path:
                yield odd
                continue
            made = copy.deepcopy(document)
            _parent(made, path)[path[-1]] = odd
            yield made
        if path and isinstance(path[-1], str):
            made = copy.deepcopy(document)
            del _parent(made, path)[path[-1]]
            yield made


def _parent(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        document = document[step]
    return document


def bodies_of(document: Any) -> Iterator[bytes]:
    """The altered documents as JSON, and what is no JSON."""
    whole = json.dumps(document).encode()
    yield from (b"", b"\xff\xfe", whole[:-1], b"[" * 100_000, whole + b"}")
    yield from (json.dumps(made).encode() for made in altered(document))


class Sends:
    """A client whose server sends the same again and again, in turns."""

    def __init__(self, bodies: list[bytes], headers: Mapping[str, str] | None = None) -> None:
        self.bodies = bodies
        self.headers = headers or {}
        self.asked = 0

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int | None = None,
        seconds: float | None = None,
    ) -> Answer:
        content = self.bodies[min(self.asked, len(self.bodies) - 1)]
        self.asked += 1
        if self.asked > 50:
            raise SourceFailed("enough", reason="timeout")
        return Answer(200, self.headers, content)

    @asynccontextmanager
    async def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, max_bytes: int | None = None
    ) -> AsyncIterator[FetchedFile]:
        answer = await self.request("GET", url)
        yield FetchedFile(answer.status, answer.headers, io.BytesIO(answer.content))


@pytest.mark.parametrize(("kind", "place"), [("taxii", 0), ("taxii", 1), ("taxii", 2), ("misp", 0), ("misp", 1)])
async def test_a_feed_gives_entries_or_says_why_not(kind: str, place: int) -> None:
    documents = TAXII if kind == "taxii" else MISP
    source = make_list_source(new_config(kind, address="https://feed.example/taxii2/"), "a:b")
    good = [json.dumps(document).encode() for document in documents]
    for body in bodies_of(documents[place]):
        bodies = [*good[:place], body, *good[place + 1 :]]
        for added in ("2026-11-21T12:00:00Z", ""):
            try:
                async with source.download(Sends(bodies, {"x-taxii-date-added-last": added}), None) as download:
                    assert all(isinstance(entry.value, str) for entry in download.entries)
                async with source.download(Sends(good), download.state) as again:
                    assert len(again.state) < 65_536
            except SourceFailed:
                continue


@pytest.mark.parametrize("kind", ["safe_browsing_v4", "safe_browsing", "web_risk"])
async def test_an_update_is_taken_or_leaves_the_prefixes_in_force(kind: str) -> None:
    name = {"safe_browsing_v4": "MALWARE/ANY_PLATFORM/URL", "safe_browsing": "mw-4b", "web_risk": "MALWARE"}[kind]
    before = dump([PrefixList(name, b"version", short_prefixes([1, 2, 3], 3))])
    source = make_signal_source(new_config(kind, secret_ref="env:KEY", options={"threats": "MALWARE"}), "key")
    assert isinstance(source, FileSource)
    for body in bodies_of(UPDATES[kind]):
        try:
            renewed = await source.renew(Sends([body]), before)
        except SourceFailed:
            continue
        assert renewed.wait_seconds is None or 0 <= renewed.wait_seconds <= 7 * 86_400
        # Nothing that is made up here has a checksum that fits.
        assert renewed.entries == 3


@pytest.mark.parametrize("kind", ["safe_browsing_v4", "safe_browsing", "web_risk"])
async def test_an_answer_about_full_hashes_is_understood_or_a_failure(kind: str, tmp_path: Path) -> None:
    digest = expression_digest("evil.example/")
    config = new_config(kind, secret_ref="env:KEY", options={"threats": "MALWARE"})
    prefix = int.from_bytes(digest[:4], "big")
    (tmp_path / file_name(config)).write_bytes(dump([PrefixList("MALWARE", b"", short_prefixes([prefix], 1))]))
    for body in bodies_of(ANSWERS[kind]):
        assert await asked(config, Sends([body]), tmp_path) is None


async def asked(config: Any, client: Sends, folder: Path) -> Any:
    source = make_signal_source(config, "key")
    assert isinstance(source, FileSource)
    source.use(folder, client)
    target = target_of("http://evil.example/")
    assert target is not None
    try:
        return await source.inspect(target, time.monotonic() + 10)
    except SourceFailed:
        return None
    finally:
        await source.aclose()


@given(st.text(max_size=200) | st.text(alphabet="ab.,;\t\"'\n-20269#x", max_size=200))
def test_any_list_of_names_is_read_or_refused(text: str) -> None:
    clock = datetime(2026, 11, 21, tzinfo=UTC)
    source = make_signal_source(new_config("domain_age", address="https://lists.example/"), "")
    assert isinstance(source, FileSource)
    source._clock = lambda: clock  # type: ignore[attr-defined]  # time is the one thing that tests replace
    try:
        renewed = asyncio.run(source.renew(Sends([text.encode("utf-8", "surrogatepass")]), None))
    except SourceFailed:
        return
    assert renewed.content is not None
