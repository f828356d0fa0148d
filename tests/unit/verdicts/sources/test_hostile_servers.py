"""Whatever a server sends, a source gives something or says why not; nothing else is raised."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Mapping
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
from app.verdicts.sources.types import Answer, SourceFailed

KEYS = [
    "api_roots", "default", "collections", "id", "title", "can_read", "objects", "more", "next", "type", "pattern",
    "pattern_type", "valid_until", "valid_from", "revoked", "confidence", "indicator_types", "Event", "Attribute",
    "Object", "value", "to_ids", "deleted", "date", "timestamp", "first_seen", "uuid",
    "5f9d88a9-0b9c-4b0e-8e55-3d1f00000001", "listUpdateResponses", "minimumWaitDuration", "threatType",
    "platformType", "threatEntryType", "responseType", "newClientState", "checksum", "sha256", "additions", "removals",
    "rawHashes", "riceHashes", "rawIndices", "riceIndices", "indices", "prefixSize", "numEntries", "entryCount",
    "firstValue", "riceParameter", "encodedData", "matches", "threat", "hash", "cacheDuration",
    "negativeCacheDuration", "threats", "threatTypes", "expireTime", "negativeExpireTime", "recommendedNextDiff",
    "newVersionToken",
]  # fmt: skip
VALUES = [
    "indicator", "stix", "[url:value = 'http://evil.example/']", "[", "url", "domain|ip", "evil.example|1.2.3.4",
    "2026-11-21T12:00:00Z", "2026-11-21", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "²", "9" * 5000, "1",
    "/root/",
    "http://[::1", "//other.example/", "MALWARE", "ANY_PLATFORM", "URL", "FULL_UPDATE", "PARTIAL_UPDATE", "RESET",
    "DIFF", "AAAA", "AAAAAAAA", "!", "300s", "999999999.999999999s", "-5s", "4", "benign",
]  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.integers(-3, 40) | st.floats() | st.sampled_from(VALUES)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
BODIES = JSON.map(lambda data: json.dumps(data).encode()) | st.binary(max_size=60)


def like(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with these fields, each of which may be missing or anything."""
    return st.fixed_dictionaries({}, optional={name: values | JSON for name, values in fields.items()})


def encoded(data: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return data.map(lambda found: json.dumps(found).encode())


PATTERNS = st.sampled_from(
    ["[url:value = 'http://a.example/']", "[url:value = 'b' AND url:value = 'c']", "[x:y = 'z']"]
)
TIMES = st.sampled_from(["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-13-01", "x"])
INDICATOR = like(
    type=st.just("indicator"),
    id=st.just("indicator--1"),
    pattern=PATTERNS,
    pattern_type=st.sampled_from(["stix", "snort"]),
    valid_from=TIMES,
    valid_until=TIMES,
    revoked=st.booleans(),
    confidence=st.integers(-5, 200),
    indicator_types=st.lists(st.sampled_from(["benign", "malicious-activity"]), max_size=2),
)
DISCOVERY = encoded(like(default=st.just("/root/"), api_roots=st.lists(st.just("/root/"), max_size=2)))
COLLECTIONS = encoded(like(collections=st.lists(like(id=st.just("one"), can_read=st.just(True)), max_size=3)))
ENVELOPE = encoded(like(more=st.booleans(), next=st.just("n"), objects=st.lists(INDICATOR, max_size=4)))
UUID = "5f9d88a9-0b9c-4b0e-8e55-3d1f00000001"
MANIFEST = encoded(
    st.fixed_dictionaries({UUID: like(timestamp=st.sampled_from(["5", "²", "9" * 30]), date=st.just("2026-11-01"))})
)
ATTRIBUTE = like(type=st.sampled_from(["url", "domain|ip"]), value=st.just("a.example|1"), to_ids=st.just(True))
EVENT = encoded(
    like(
        Event=like(Attribute=st.lists(ATTRIBUTE, max_size=3), Object=st.lists(like(Attribute=st.just([])), max_size=2))
    )
)
CHAINS = (
    st.tuples(DISCOVERY, COLLECTIONS, ENVELOPE, ENVELOPE).map(list)
    | st.tuples(MANIFEST, EVENT).map(list)
    | st.lists(BODIES, min_size=1, max_size=4)
)
SMALL = st.integers(-2, 40) | st.sampled_from([2**31, 2**64, 10**30, 1e300, "7", "x", float("inf")])
BYTES = st.sampled_from(["", "AAAA", "AQIDBA==", "_-_-", "!"])
RICE = like(firstValue=SMALL, riceParameter=SMALL, numEntries=SMALL, entryCount=SMALL, encodedData=BYTES)
RAW = like(prefixSize=SMALL, rawHashes=BYTES)
REMOVED = like(rawIndices=like(indices=st.lists(SMALL, max_size=3)), riceIndices=RICE)
ADDED = like(rawHashes=RAW | st.lists(RAW, max_size=2), riceHashes=RICE)
UPDATE = like(
    threatType=st.just("MALWARE"),
    platformType=st.just("ANY_PLATFORM"),
    threatEntryType=st.just("URL"),
    responseType=st.sampled_from(["FULL_UPDATE", "PARTIAL_UPDATE", "RESET", "DIFF"]),
    newClientState=BYTES,
    newVersionToken=BYTES,
    checksum=like(sha256=BYTES),
    additions=st.lists(ADDED, max_size=2) | ADDED,
    removals=st.lists(REMOVED, max_size=2) | REMOVED,
    recommendedNextDiff=TIMES,
)
UPDATES = encoded(
    UPDATE | like(listUpdateResponses=st.lists(UPDATE, max_size=2), minimumWaitDuration=st.sampled_from(VALUES))
)
THREATS = st.lists(st.sampled_from(["MALWARE", "LATER"]), max_size=2)
MATCH = like(
    threatType=st.just("MALWARE"),
    threat=like(hash=BYTES),
    hash=BYTES,
    threatTypes=THREATS,
    cacheDuration=st.sampled_from(VALUES),
    expireTime=TIMES,
)
ANSWERS = encoded(
    like(
        matches=st.lists(MATCH, max_size=2),
        threats=st.lists(MATCH, max_size=2),
        negativeCacheDuration=st.sampled_from(VALUES),
        negativeExpireTime=TIMES,
        minimumWaitDuration=st.sampled_from(VALUES),
    )
)


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
        return Answer(200, self.headers, io.BytesIO(content), len(content))


@pytest.mark.parametrize("kind", ["taxii", "misp"])
@given(st.data())
def test_a_feed_gives_entries_or_says_why_not(kind: str, data: st.DataObject) -> None:
    bodies = data.draw(CHAINS)
    added = data.draw(st.sampled_from(["", "2026-11-21T12:00:00Z", "tomorrow"]))
    source = make_list_source(new_config(kind, address="https://feed.example/taxii2/"), "a:b")
    client = Sends(bodies, {"x-taxii-date-added-last": added})
    try:
        download = asyncio.run(source.download(client, None))
        entries = list(download.entries)
        again = asyncio.run(source.download(Sends(bodies), download.state))
    except SourceFailed:
        return
    assert all(isinstance(entry.value, str) for entry in entries)
    assert isinstance(again.state, bytes)


@pytest.mark.parametrize("kind", ["safe_browsing_v4", "safe_browsing", "web_risk"])
@given(st.data())
def test_an_update_is_taken_or_leaves_the_prefixes_in_force(kind: str, data: st.DataObject) -> None:
    body = data.draw(UPDATES | BODIES)
    name = {"safe_browsing_v4": "MALWARE/ANY_PLATFORM/URL", "safe_browsing": "mw-4b", "web_risk": "MALWARE"}[kind]
    before = dump([PrefixList(name, b"version", short_prefixes([1, 2, 3], 3))])
    config = new_config(kind, secret_ref="env:KEY", options={"threats": "MALWARE"})
    source = make_signal_source(config, "key")
    assert isinstance(source, FileSource)
    try:
        renewed = asyncio.run(source.renew(Sends([body]), before))
    except SourceFailed:
        return
    assert renewed.wait_seconds is None or 0 <= renewed.wait_seconds <= 7 * 86_400
    # Nothing that was made up here has a checksum that fits.
    assert renewed.entries == 3


@pytest.mark.parametrize("kind", ["safe_browsing_v4", "safe_browsing", "web_risk"])
@given(st.data())
def test_an_answer_about_full_hashes_is_understood_or_a_failure(
    kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    body = data.draw(ANSWERS | BODIES)
    folder = tmp_path_factory.getbasetemp()
    digest = expression_digest("evil.example/")
    config = new_config(kind, name=f"{kind} under test", secret_ref="env:KEY", options={"threats": "MALWARE"})
    prefix = int.from_bytes(digest[:4], "big")
    (folder / file_name(config)).write_bytes(dump([PrefixList("MALWARE", b"", short_prefixes([prefix], 1))]))
    signal = asyncio.run(asked(config, Sends([body]), folder))
    assert signal is None


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
