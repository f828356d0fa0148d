"""MISP feeds: a manifest of events, and a JSON file for each.

Asked for are the events whose timestamp is newer than the newest one that was seen, and once a week all of them,
since an event that was changed does not say what it held before. Used are attributes ``url``, ``domain``, ``hostname``
and the domain of ``domain|ip`` that are marked for detection (``to_ids``) and not deleted, also inside of objects.

References:
    https://www.misp-project.org/feeds/ (feeds; ``manifest.json`` and ``UUID.json`` beside it)
    https://datatracker.ietf.org/doc/draft-dulaunoy-misp-core-format/ (2.2 event, 2.4 attribute, 3 manifest)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urljoin

from app.kit.clock import Clock, utc_now
from app.verdicts.sources.base import NOT_USED, PolledList, json_object, require_ok
from app.verdicts.sources.files import option_number
from app.verdicts.sources.types import Answer, Download, Entry, SourceClient, SourceConfig, SourceFailed, Tally
from app.verdicts.waiting import all_of

WHOLE_DAYS: Final = 7
DAYS: Final = 180
MAX_EVENTS: Final = 20_000
MAX_ENTRIES: Final = 2_000_000
MAX_MANIFEST_BYTES: Final = 64 << 20
MAX_EVENT_BYTES: Final = 128 << 20
_AT_ONCE: Final = 4
_UUID_RE: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_TYPES: Final = ("url", "domain", "hostname", "domain|ip")


@dataclass(slots=True)
class _Reading:
    entries: dict[str, Entry] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        day = _day(event.get("date"))
        for attribute in _attributes(event):
            kind = attribute.get("type")
            if kind not in _TYPES or attribute.get("deleted") in (True, "1", 1):
                continue
            if attribute.get("to_ids") not in (True, "1", 1):
                continue
            value = attribute.get("value")
            if not isinstance(value, str) or not value.strip():
                self.tally.refuse(f"{str(attribute.get('uuid', 'an attribute'))[:60]}: no value")
                continue
            value = value.strip()
            if kind == "domain|ip":
                value = value.partition("|")[0]
            if len(self.entries) >= MAX_ENTRIES and value not in self.entries:
                raise SourceFailed("There are more than two million attributes. None was used.", reason="too_large")
            self.entries[value] = Entry(value, None, _day(attribute.get("first_seen")) or day)


class MispFeed(PolledList):
    """A MISP feed. Options: ``days`` (180; events that are older are left out, 0 for all), ``auth_header``
    (``Authorization``).

    Args:
        config: As it was set up; the address is the folder of the manifest, or the manifest.
        secret: The value of a header, or empty.
        clock: Aware UTC, for tests.
    """

    def __init__(self, config: SourceConfig, secret: str, *, clock: Clock = utc_now) -> None:
        super().__init__(config, secret, clock=clock)
        self._days = option_number(config, "days", DAYS)

    async def poll(self, client: SourceClient, state: bytes | None) -> Download:
        """Ask for new events.

        Raises:
            SourceFailed: The manifest or an event did not come whole; nothing is used.
        """
        now = self._clock()
        newest, whole_until = _load_state(state)
        whole = now >= whole_until
        if whole:
            newest, whole_until = 0, now + timedelta(days=WHOLE_DAYS)
        reading = _Reading()
        manifest = await self._get(client, self._manifest_url(), MAX_MANIFEST_BYTES)
        wanted = self._wanted(manifest, newest, now, reading.tally)
        if len(wanted) > MAX_EVENTS:
            raise SourceFailed(
                f"{self.name} has {len(wanted)} events; more than {MAX_EVENTS} are not asked for. "
                "Set the option days. Nothing was used.",
                reason="too_large",
            )
        for at in range(0, len(wanted), _AT_ONCE):
            part = wanted[at : at + _AT_ONCE]
            events = await all_of(self._event(client, uuid) for uuid, _ in part)
            for event in events:
                await asyncio.to_thread(reading.take, event)
        newest = max([newest, *(timestamp for _, timestamp in wanted)])
        return Download(
            unchanged=not whole and not wanted,
            entries=list(reading.entries.values()),
            state=json.dumps({"newest": newest, "whole_until": whole_until.isoformat()}).encode(),
            whole=whole,
            tally=reading.tally,
        )

    def _manifest_url(self) -> str:
        address = self._config.address
        return address if address.endswith("manifest.json") else urljoin(address.rstrip("/") + "/", "manifest.json")

    def _wanted(self, manifest: Mapping[str, Any], newest: int, now: datetime, tally: Tally) -> list[tuple[str, int]]:
        """UUID and timestamp of the events to ask for, oldest first."""
        earliest = (now - timedelta(days=self._days)).date() if self._days else date.min
        found: list[tuple[str, int]] = []
        for uuid, about in manifest.items():
            # The name becomes a part of an address.
            if not _UUID_RE.match(uuid) or not isinstance(about, dict):
                tally.refuse(f"{uuid[:60]}: no event in the manifest")
                continue
            timestamp = str(about.get("timestamp", ""))
            if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 15:
                tally.refuse(f"{uuid}: no timestamp in the manifest")
                continue
            day = _day(about.get("date"))
            if int(timestamp) > newest and (day is None or day >= earliest):
                found.append((uuid, int(timestamp)))
        return sorted(found, key=lambda pair: (pair[1], pair[0]))

    async def _event(self, client: SourceClient, uuid: str) -> Mapping[str, Any]:
        found = await self._get(client, urljoin(self._manifest_url(), f"{uuid}.json"), MAX_EVENT_BYTES)
        event = found.get("Event")
        if not isinstance(event, dict):
            raise SourceFailed(f"{self.name} has no event in {uuid}.json. Nothing was used.", reason="format")
        return event

    async def _get(self, client: SourceClient, url: str, most: int) -> Mapping[str, Any]:
        headers = {"accept": "application/json"}
        if self._secret:
            headers[str(self._config.options.get("auth_header", "Authorization")).lower()] = self._secret
        answer = await client.request("GET", url, headers=headers, max_bytes=most)
        return await asyncio.to_thread(self._read, answer, url.rpartition("/")[2])

    def _read(self, answer: Answer, file: str) -> Mapping[str, Any]:
        require_ok(answer, self.name, NOT_USED, about=file)
        return json_object(answer, self.name, NOT_USED, about=file)


def _attributes(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All attributes of an event, also those of its objects."""
    groups = [event.get("Attribute")]
    objects = event.get("Object")
    if isinstance(objects, list):
        groups += [one.get("Attribute") for one in objects if isinstance(one, dict) and not one.get("deleted")]
    for group in groups:
        if isinstance(group, list):
            yield from (attribute for attribute in group if isinstance(attribute, dict))


def _load_state(state: bytes | None) -> tuple[int, datetime]:
    """The newest timestamp that was seen, and when everything is asked for again."""
    try:
        found = json.loads(state or b"{}")
        return int(found["newest"]), datetime.fromisoformat(found["whole_until"])
    except (ValueError, KeyError, TypeError):
        return 0, datetime.min.replace(tzinfo=UTC)


def _day(text: Any) -> date | None:
    """The day of a date or a timestamp; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None
