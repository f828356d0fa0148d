"""Google Web Risk, Update API: the commercial sibling of Safe Browsing, with the same idea of prefixes.

References:
    https://cloud.google.com/web-risk/docs/update-api
    https://cloud.google.com/web-risk/docs/reference/rest/v1/threatLists/computeDiff
    https://cloud.google.com/web-risk/docs/reference/rest/v1/hashes/search
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from app.verdicts.advisories import WEB_RISK
from app.verdicts.sources.files import Renewed
from app.verdicts.sources.safe_browsing import MAX_ANSWER_BYTES, MAX_UPDATE_BYTES, UPDATE_SECONDS
from app.verdicts.sources.safe_browsing_file import PrefixHit
from app.verdicts.sources.safe_browsing_json import bytes_of, read_json, time_of
from app.verdicts.sources.safe_browsing_lookup import Found, GoogleSource
from app.verdicts.sources.types import Answer, SourceClient
from app.verdicts.waiting import all_of

WAIT_WITHOUT_WORD: Final = 1800.0


class WebRisk(GoogleSource):
    """Web Risk. Option: ``threats`` (threat types)."""

    advisory = WEB_RISK

    async def _renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        from app.verdicts.sources.safe_browsing_updates import Lists

        lists = await asyncio.to_thread(Lists, previous, list(self.threats))
        waits: list[float] = []
        for threat in self.threats:
            parameters = [
                ("threatType", threat),
                ("constraints.supportedCompressions", "RAW"),
                ("constraints.supportedCompressions", "RICE"),
            ]
            if lists.version(threat):
                parameters.append(("versionToken", base64.b64encode(lists.version(threat)).decode()))
            path = "/v1/threatLists:computeDiff"
            answer = await self.get(client, path, parameters, most=MAX_UPDATE_BYTES, seconds=UPDATE_SECONDS)
            soonest = await asyncio.to_thread(_read_diff, answer, lists, threat, self.name)
            if soonest is not None:
                waits.append(max(0.0, (soonest - self._clock()).total_seconds()))
        wait = max(waits) if waits else WAIT_WITHOUT_WORD
        renewed: Renewed = await asyncio.to_thread(lists.renewed, wait, self.name)
        return renewed

    async def _search(self, client: SourceClient, hits: Sequence[PrefixHit], seconds: float) -> Found:
        # One prefix a request; an address has rarely more than one that is listed.
        answers = await all_of(self._search_one(client, hit.prefix, seconds) for hit in hits)
        found = Found(others_seconds=min(answer.others_seconds for answer in answers))
        for answer in answers:
            found.hashes.update(answer.hashes)
        return found

    async def _search_one(self, client: SourceClient, prefix: bytes, seconds: float) -> Found:
        parameters = [("hashPrefix", base64.b64encode(prefix).decode())]
        parameters += [("threatTypes", threat) for threat in self.threats]
        answer = await self.get(client, "/v1/hashes:search", parameters, most=MAX_ANSWER_BYTES, seconds=seconds)
        return self.understood(lambda: _full_hashes(read_json(answer, self.name), self._clock()))


def _read_diff(answer: Answer, lists: Any, threat: str, name: str) -> datetime | None:
    from app.verdicts.sources.safe_browsing_updates import web_risk_changes

    found = read_json(answer, name)
    lists.update(threat, lambda: web_risk_changes(found))
    return time_of(found.get("recommendedNextDiff"))


def _full_hashes(answer: Mapping[str, Any], now: datetime) -> Found:
    found = Found(others_seconds=_until(answer.get("negativeExpireTime"), now))
    for threat in answer.get("threats", []):
        for kind in threat["threatTypes"]:
            found.add(bytes_of(threat["hash"]), str(kind), _until(threat.get("expireTime"), now))
    return found


def _until(text: Any, now: datetime) -> float:
    moment = time_of(text)
    return 0.0 if moment is None else max(0.0, (moment - now).total_seconds())
