"""STIX 2.1 indicators from a TAXII 2.1 server, polled.

The address is a discovery resource, an API root or a collection. Of each collection that may be read, what was added
since the last poll is asked for, page by page; once a day everything, since an indicator that was changed does not say
what it said before. Between two of those, indicators that end or are revoked are taken off.

References:
    https://docs.oasis-open.org/cti/taxii/v2.1/os/taxii-v2.1-os.html (4.1 discovery, 4.2 API root, 5.1 collections,
    5.4 objects, 3.5 pagination: ``more``, ``next``, ``X-TAXII-Date-Added-Last``)
    https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html (4.7 indicator)
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from app.kit.clock import Clock, utc_now
from app.verdicts.sources.base import NOT_USED, PolledList, json_object, require_ok
from app.verdicts.sources.files import option_number, option_texts
from app.verdicts.sources.taxii_patterns import BadPattern, parse_pattern
from app.verdicts.sources.types import Answer, Download, Entry, SourceClient, SourceConfig, SourceFailed, Tally

MEDIA_TYPE: Final = "application/taxii+json;version=2.1"
MAX_PAGES: Final = 2_000
MAX_ENTRIES: Final = 2_000_000
PAGE: Final = 1_000
MAX_PAGE_BYTES: Final = 64 << 20
WHOLE_HOURS: Final = 24
MAX_ENDING: Final = 300
LEAST_CONFIDENCE: Final = 50
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _State:
    """What is remembered between polls.

    Attributes:
        since: Collection address -> when the last object that was seen had been added, as the server wrote it.
        whole_until: When everything is asked for again.
        ending: Values that end before that, with the time.
    """

    since: dict[str, str] = field(default_factory=dict)
    whole_until: datetime = _NEVER
    ending: list[tuple[datetime, str]] = field(default_factory=list)

    def dump(self) -> bytes:
        ending = [[moment.isoformat(), value] for moment, value in self.ending]
        return json.dumps(
            {"since": self.since, "whole_until": self.whole_until.isoformat(), "ending": ending}, sort_keys=True
        ).encode()

    @staticmethod
    def load(data: bytes) -> _State:
        """What :meth:`dump` made.

        Raises:
            ValueError: It did not.
        """
        try:
            found = json.loads(data)
            ending = [(datetime.fromisoformat(moment), str(value)) for moment, value in found["ending"]]
            return _State(dict(found["since"]), datetime.fromisoformat(found["whole_until"]), ending)
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None


@dataclass(slots=True)
class _Reading:
    """What was read so far."""

    now: datetime
    least_confidence: int
    entries: dict[str, Entry] = field(default_factory=dict)
    removed: dict[str, None] = field(default_factory=dict)
    ending: list[tuple[datetime, str]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def take(self, found: Any) -> None:
        """Take in one object of an envelope."""
        if not isinstance(found, dict) or found.get("type") != "indicator":
            return
        name = str(found.get("id", "an indicator"))[:80]
        if found.get("pattern_type", "stix") != "stix":
            self.tally.refuse(f"{name}: a pattern in {str(found['pattern_type'])[:20]}, not in STIX")
            return
        try:
            pattern = parse_pattern(str(found.get("pattern", "")))
        except BadPattern as error:
            self.tally.refuse(f"{name}: {error}")
            return
        if not pattern.values:
            self.tally.refuse(f"{name}: nothing that can be used ({', '.join(pattern.unused)[:100]})")
            return
        until = _time(found.get("valid_until"))
        if found.get("revoked") is True or (until is not None and until <= self.now):
            self.removed.update(dict.fromkeys(pattern.values))
            return
        if not self._counts(found, name):
            return
        if len(self.entries) + len(pattern.values) > MAX_ENTRIES:
            raise SourceFailed("There are more than two million indicators. None was used.", reason="too_large")
        since = _time(found.get("valid_from"))
        for value in pattern.values:
            self.entries[value] = Entry(value, None, since.date() if since is not None else None)
            if until is not None:
                self.ending.append((until, value))

    def _counts(self, found: Mapping[str, Any], name: str) -> bool:
        kinds = found.get("indicator_types")
        if isinstance(kinds, list) and "benign" in kinds:
            self.tally.refuse(f"{name}: marked as benign")
            return False
        start = _time(found.get("valid_from"))
        if start is not None and start > self.now + timedelta(days=1):
            self.tally.refuse(f"{name}: not valid yet")
            return False
        confidence = found.get("confidence")
        if isinstance(confidence, int) and confidence < self.least_confidence:
            self.tally.refuse(f"{name}: a confidence of {confidence}")
            return False
        return True


class TaxiiSource(PolledList):
    """Indicators of a TAXII 2.1 server.

    Options: ``collections`` (ids, aliases or titles; all that may be read), ``min_confidence`` (50; indicators that say
    none count), ``auth`` (``basic`` with a key ``user:password``, ``bearer``, or the name of a header).

    Args:
        config: As it was set up.
        secret: The key, or empty.
        clock: Aware UTC, for tests.
    """

    def __init__(self, config: SourceConfig, secret: str, *, clock: Clock = utc_now) -> None:
        super().__init__(config, secret, clock=clock)
        self._least_confidence = option_number(config, "min_confidence", LEAST_CONFIDENCE)

    async def poll(self, client: SourceClient, state: bytes | None) -> Download:
        """Ask for what was added, or for everything.

        Raises:
            SourceFailed: Something did not come whole; nothing of this poll is used.
        """
        now = self._clock()
        before = _State()
        if state is not None:
            try:
                before = _State.load(state)
            except ValueError:
                before = _State()
        whole = now >= before.whole_until
        after = _State({}, now + timedelta(hours=WHOLE_HOURS)) if whole else before
        reading = _Reading(now, self._least_confidence)
        for collection in await self._collections(client):
            last = await self._poll(client, collection, "" if whole else before.since.get(collection, ""), reading)
            if last:
                after.since[collection] = last
        return self._result(reading, before, after, whole=whole)

    def _result(self, reading: _Reading, before: _State, after: _State, *, whole: bool) -> Download:
        now = reading.now
        removed = dict(reading.removed)
        ending = list(reading.ending)
        if not whole:
            removed.update({value: None for moment, value in before.ending if moment <= now})
            ending += [pair for pair in before.ending if pair[0] > now and pair[1] not in reading.entries]
        # Only what ends before everything is asked for again needs to be remembered.
        soon = sorted(pair for pair in ending if pair[0] < after.whole_until)
        if len(soon) > MAX_ENDING:
            after.whole_until = soon[MAX_ENDING][0]
            soon = soon[:MAX_ENDING]
        after.ending = [(moment, value) for moment, value in soon if len(value) <= 200]
        if len(after.ending) < len(soon):
            after.whole_until = min(moment for moment, value in soon if len(value) > 200)
        gone = [value for value in removed if value not in reading.entries]
        unchanged = not whole and not reading.entries and not gone
        return Download(
            unchanged=unchanged,
            entries=list(reading.entries.values()),
            state=after.dump(),
            whole=whole,
            tally=reading.tally,
            removed=() if whole else gone,
        )

    async def _collections(self, client: SourceClient) -> list[str]:
        """Addresses of the collections to poll."""
        address = _folder(self._config.address)
        found = await self._get(client, address)
        if "can_read" in found:
            return [address]
        roots = [address]
        if "api_roots" in found or "default" in found:
            listed_roots = found.get("api_roots")
            chosen = found.get("default") or (
                listed_roots[0] if isinstance(listed_roots, list) and listed_roots else ""
            )
            if not isinstance(chosen, str) or not chosen:
                raise SourceFailed(f"{self.name} names no API root. Nothing was used.", reason="format")
            roots = [self._joined(address, chosen)]
        wanted = option_texts(self._config, "collections")
        collections: list[str] = []
        named: set[str] = set()
        for root in roots:
            listed = await self._get(client, urljoin(_folder(root), "collections/"))
            members = listed.get("collections", [])
            for one in members if isinstance(members, list) else []:
                if not isinstance(one, dict) or not isinstance(one.get("id"), str):
                    continue
                names = {str(one.get(key)) for key in ("id", "alias", "title") if one.get(key)}
                if one.get("can_read") is not True or (wanted and not names & set(wanted)):
                    continue
                named |= names
                collections.append(self._joined(_folder(root), f"collections/{one['id']}/"))
        missing = [name for name in wanted if name not in named]
        if missing or not collections:
            raise SourceFailed(
                f"{self.name} has no collection {', '.join(missing) or 'that may be read'}. Nothing was used.",
                reason="format",
            )
        return collections

    def _joined(self, base: str, rest: str) -> str:
        """An address that the server names.

        Raises:
            SourceFailed: It is none.
        """
        try:
            return urljoin(base, rest)
        except ValueError:
            raise SourceFailed(
                f"{self.name} names an address that is none. Nothing was used.", reason="format"
            ) from None

    async def _poll(self, client: SourceClient, collection: str, since: str, reading: _Reading) -> str:
        """All pages of one collection; returns when the last object was added, as the server wrote it."""
        last, after, following = since, since, ""
        for _ in range(MAX_PAGES):
            question = {"limit": str(PAGE), "match[type]": "indicator"}
            if after:
                question["added_after"] = after
            if following:
                question["next"] = following
            answer = await self._request(client, f"{urljoin(collection, 'objects/')}?{urlencode(question)}")
            added = answer.headers.get("x-taxii-date-added-last", "")
            last = added or last
            envelope = await asyncio.to_thread(self._read, answer)
            objects = envelope.get("objects", [])
            if not isinstance(objects, list):
                raise SourceFailed(f"{self.name} sent no list of objects. Nothing was used.", reason="format")
            await asyncio.to_thread(_take_all, reading, objects)
            if envelope.get("more") is not True:
                return last
            following = str(envelope.get("next") or "")
            if not following:
                # "may paginate through the remaining records by using the added_after URL parameter with the
                # date/time value from the X-TAXII-Date-Added-Last header" (3.5)
                if not added or added == after:
                    raise SourceFailed(
                        f"{self.name} has more objects and does not say how to ask for them. Nothing was used.",
                        reason="format",
                    )
                after = added
        raise SourceFailed(f"{self.name} sent more than {MAX_PAGES} pages. Nothing was used.", reason="too_large")

    async def _get(self, client: SourceClient, url: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._read, await self._request(client, url))

    async def _request(self, client: SourceClient, url: str) -> Answer:
        ours, other = urlsplit(self._config.address), urlsplit(url)
        if (ours.scheme, ours.netloc) != (other.scheme, other.netloc):
            # The key is for the configured server alone.
            raise SourceFailed(
                f"{self.name} names an API root on another server ({other.netloc[:80]}). Give that as the "
                "address if it is right. Nothing was used.",
                reason="address",
            )
        return await client.request(
            "GET", url, headers={"accept": MEDIA_TYPE, **self._authorization()}, max_bytes=MAX_PAGE_BYTES
        )

    def _authorization(self) -> dict[str, str]:
        if not self._secret:
            return {}
        kind = str(self._config.options.get("auth", "basic"))
        if kind == "basic":
            return {"authorization": "Basic " + base64.b64encode(self._secret.encode()).decode()}
        if kind == "bearer":
            return {"authorization": f"Bearer {self._secret}"}
        return {kind.lower(): self._secret}

    def _read(self, answer: Answer) -> dict[str, Any]:
        require_ok(answer, self.name, NOT_USED)
        return json_object(answer, self.name, NOT_USED)


def _take_all(reading: _Reading, objects: list[Any]) -> None:
    for found in objects:
        reading.take(found)


def _folder(url: str) -> str:
    return url if url.endswith("/") else url + "/"


def _time(text: Any) -> datetime | None:
    """A STIX timestamp; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
