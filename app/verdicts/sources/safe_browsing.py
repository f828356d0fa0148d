"""Google Safe Browsing v4, Update API: lists of hash prefixes, and full hashes for those that match.

References:
    https://developers.google.com/safe-browsing/v4/update-api
    https://developers.google.com/safe-browsing/v4/local-databases (checksum)
    https://cloud.google.com/docs/authentication/api-keys-use (the key goes into a header)
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.verdicts.sources.files import Renewed
from app.verdicts.sources.safe_browsing_file import PrefixHit
from app.verdicts.sources.safe_browsing_json import bytes_of, read_json, seconds_of
from app.verdicts.sources.safe_browsing_lookup import Found, GoogleSource
from app.verdicts.sources.types import Answer, SourceClient

CLIENT: Final = {"clientId": "postern", "clientVersion": "1"}
MAX_UPDATE_BYTES: Final = 256 << 20
MAX_ANSWER_BYTES: Final = 1 << 20
UPDATE_SECONDS: Final = 300.0


class SafeBrowsingV4(GoogleSource):
    """Safe Browsing v4. Options: ``threats`` (threat types), ``platform`` (``ANY_PLATFORM``)."""

    @property
    def platform(self) -> str:
        """The platform whose lists are asked for."""
        return str(self._config.options.get("platform", "ANY_PLATFORM"))

    async def _renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        # What decodes lists needs numpy; the gateway, which only asks, does not load it.
        from app.verdicts.sources.safe_browsing_updates import Lists

        names = {f"{threat}/{self.platform}/URL": threat for threat in self.threats}
        lists = await asyncio.to_thread(Lists, previous, list(names))
        wanted = [
            {
                "threatType": threat,
                "platformType": self.platform,
                "threatEntryType": "URL",
                "state": base64.b64encode(lists.version(name)).decode(),
                "constraints": {"supportedCompressions": ["RAW", "RICE"]},
            }
            for name, threat in names.items()
        ]
        answer = await client.request(
            "POST",
            self.url("/v4/threatListUpdates:fetch"),
            headers={**self.headers(), "content-type": "application/json"},
            body=json.dumps({"client": CLIENT, "listUpdateRequests": wanted}).encode(),
            max_bytes=MAX_UPDATE_BYTES,
            seconds=UPDATE_SECONDS,
        )
        return await asyncio.to_thread(_read_updates, answer, lists, self.name)

    async def _search(self, client: SourceClient, hits: Sequence[PrefixHit], seconds: float) -> Found:
        question = {
            "client": CLIENT,
            "threatInfo": {
                "threatTypes": list(self.threats),
                "platformTypes": [self.platform],
                "threatEntryTypes": ["URL"],
                "threatEntries": [{"hash": base64.b64encode(hit.prefix).decode()} for hit in hits],
            },
        }
        answer = await client.request(
            "POST",
            self.url("/v4/fullHashes:find"),
            headers={**self.headers(), "content-type": "application/json"},
            body=json.dumps(question).encode(),
            max_bytes=MAX_ANSWER_BYTES,
            seconds=seconds,
        )
        return self.understood(lambda: _full_hashes(read_json(answer, self.name)))


def _read_updates(answer: Answer, lists: Any, name: str) -> Renewed:
    from app.verdicts.sources.safe_browsing_updates import v4_changes

    found = read_json(answer, name)
    updates = found.get("listUpdateResponses", [])
    for update in updates if isinstance(updates, list) else []:
        if not isinstance(update, dict):
            lists.refuse("an update that is no object")
            continue
        key = "/".join(str(update.get(part)) for part in ("threatType", "platformType", "threatEntryType"))
        lists.update(key, lambda update=update: v4_changes(update))
    renewed: Renewed = lists.renewed(seconds_of(found.get("minimumWaitDuration")), name)
    return renewed


def _full_hashes(answer: Mapping[str, Any]) -> Found:
    found = Found(
        others_seconds=seconds_of(answer.get("negativeCacheDuration")) or 0.0,
        wait_seconds=seconds_of(answer.get("minimumWaitDuration")) or 0.0,
    )
    for match in answer.get("matches", []):
        found.add(
            bytes_of(match["threat"]["hash"]),
            str(match.get("threatType")),
            seconds_of(match.get("cacheDuration")) or 0.0,
        )
    return found
