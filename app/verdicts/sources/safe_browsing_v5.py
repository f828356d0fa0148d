"""Google Safe Browsing v5, local list mode: lists of hash prefixes, and full hashes for those that match.

Version 5 answers in protocol buffers alone; other formats are refused
(https://github.com/googleapis/google-api-go-client/issues/2534).

References:
    https://developers.google.com/safe-browsing/reference/Local.Database
    https://developers.google.com/safe-browsing/reference/rest/v5/hashLists/batchGet
    https://developers.google.com/safe-browsing/reference/rest/v5/hashes/search
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from app.verdicts.sources.files import Renewed, option_texts
from app.verdicts.sources.safe_browsing import MAX_ANSWER_BYTES, MAX_UPDATE_BYTES, UPDATE_SECONDS
from app.verdicts.sources.safe_browsing_file import SHORT, PrefixHit
from app.verdicts.sources.safe_browsing_json import read_body
from app.verdicts.sources.safe_browsing_lookup import Found, GoogleSource
from app.verdicts.sources.types import Answer, SourceClient, SourceFailed

LISTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SOCIAL_ENGINEERING": "se-4b",
        "MALWARE": "mw-4b",
        "UNWANTED_SOFTWARE": "uws-4b",
        "POTENTIALLY_HARMFUL_APPLICATION": "pha-4b",
    }
)
"""Names of lists do not change, by the documentation."""


class SafeBrowsingV5(GoogleSource):
    """Safe Browsing v5. Options: ``threats`` (threat types), ``lists`` (names of lists, in place of the usual ones)."""

    @property
    def lists(self) -> tuple[str, ...]:
        """The lists that are asked for."""
        chosen = option_texts(self._config, "lists")
        return chosen or tuple(LISTS[threat] for threat in self.threats if threat in LISTS)

    async def _renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        from app.verdicts.sources.safe_browsing_updates import Lists

        names = self.lists
        lists = await asyncio.to_thread(Lists, previous, list(names))
        parameters = [("names", name) for name in names]
        versions = [lists.version(name) for name in names]
        parameters += [("version", base64.urlsafe_b64encode(version).decode()) for version in versions if version]
        parameters.append(("alt", "proto"))
        path = "/v5/hashLists:batchGet"
        answer = await self.get(client, path, parameters, most=MAX_UPDATE_BYTES, seconds=UPDATE_SECONDS)
        return await asyncio.to_thread(_read_lists, answer, lists, self.name)

    async def _search(self, client: SourceClient, hits: Sequence[PrefixHit], seconds: float) -> Found:
        prefixes = sorted({hit.prefix[:SHORT] for hit in hits})
        parameters = [("hashPrefixes", base64.urlsafe_b64encode(prefix).decode()) for prefix in prefixes]
        parameters.append(("alt", "proto"))
        answer = await self.get(client, "/v5/hashes:search", parameters, most=MAX_ANSWER_BYTES, seconds=seconds)
        return self.understood(lambda: _full_hashes(answer, self.name))


def _parsed(message: str, answer: Answer, name: str) -> Any:
    """A message out of an answer.

    Raises:
        SourceFailed: The status is not 200, or the bytes are no such message.
    """
    from google.protobuf.message import DecodeError

    from app.verdicts.sources.safe_browsing_v5_messages import message_class

    content = read_body(answer, name)
    found = message_class(message)()
    try:
        found.ParseFromString(content)
    except DecodeError:
        raise SourceFailed(
            f"{name} sent no message that can be read. What was there stays in force.", reason="format"
        ) from None
    return found


def _read_lists(answer: Answer, lists: Any, name: str) -> Renewed:
    from app.verdicts.sources.safe_browsing_updates import v5_changes

    found = _parsed("BatchGetHashListsResponse", answer, name)
    waits = []
    for hash_list in found.hash_lists:
        if hash_list.HasField("minimum_wait_duration"):
            waits.append(_seconds(hash_list.minimum_wait_duration))
        else:
            waits.append(0.0)
        changed = hash_list.WhichOneof("compressed_additions") or hash_list.HasField("compressed_removals")
        if hash_list.partial_update and not hash_list.sha256_checksum and not changed:
            # "In the case that no updates were provided, the server will omit this field", the checksum.
            continue
        lists.update(hash_list.name, lambda hash_list=hash_list: v5_changes(hash_list))
    # A list without a wait has more to come, because of limits that are not set here; the longest wait counts.
    renewed: Renewed = lists.renewed(max(waits) if waits else None, name)
    return renewed


def _full_hashes(answer: Answer, name: str) -> Found:
    response = _parsed("SearchHashesResponse", answer, name)
    seconds = _seconds(response.cache_duration)
    found = Found(others_seconds=seconds)
    for full_hash in response.full_hashes:
        if len(full_hash.full_hash) != 32:
            raise ValueError("a full hash of another length")
        for detail in full_hash.full_hash_details:
            # A canary is not to be enforced and a frame's threat only on frames; what is not known here is to be
            # disregarded with its whole detail. So any attribute at all disqualifies.
            if not detail.attributes:
                found.add(full_hash.full_hash, _threat(detail.threat_type), seconds)
    return found


_THREATS: Final = ("", "MALWARE", "SOCIAL_ENGINEERING", "UNWANTED_SOFTWARE", "POTENTIALLY_HARMFUL_APPLICATION")


def _threat(number: int) -> str:
    """The name of a threat; one that is not known is never a threat of :data:`THREATS`."""
    return _THREATS[number] if 0 <= number < len(_THREATS) else f"THREAT_{number}"


def _seconds(duration: Any) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9
