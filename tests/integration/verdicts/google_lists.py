"""What Google's list services hold and how each of the three protocols says it: real diffs, checksums, encodings.

Shares no code with the clients: Rice coding and protocol buffers are written out here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.integration.verdicts.loopback import Asked, Reply
from tests.unit.verdicts.sources.rice_encoder import best_parameter, rice_encode

NAMES = {"se-4b": "SOCIAL_ENGINEERING", "mw-4b": "MALWARE", "uws-4b": "UNWANTED_SOFTWARE", "mw-8b": "MALWARE"}
NUMBERS = {"MALWARE": 1, "SOCIAL_ENGINEERING": 2, "UNWANTED_SOFTWARE": 3, "POTENTIALLY_HARMFUL_APPLICATION": 4}


def full_hash(expression: str) -> bytes:
    return hashlib.sha256(expression.encode()).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Lists:
    """The lists of a service.

    Attributes:
        versions: Threat -> all versions of its list so far, oldest first.
        threats: Full hash -> threats, what the full-hash search knows.
        compression: ``RAW`` or ``RICE``.
        wait: Minimum wait after an update, as the protocol writes it; empty: none.
        key: The key that is accepted.
        wrong_checksum: Threats whose next update carries a checksum of something else.
        cache: Seconds for which a match may be kept.
        negative_cache: Seconds for which a prefix without others may be kept.
        attributes: Full hash -> attributes of its details (v5).
    """

    versions: dict[str, list[list[bytes]]] = field(default_factory=dict)
    threats: dict[bytes, list[str]] = field(default_factory=dict)
    compression: str = "RICE"
    wait: str = "1800s"
    key: str = "the-key"
    wrong_checksum: set[str] = field(default_factory=set)
    cache: int = 300
    negative_cache: int = 600
    attributes: dict[bytes, list[int]] = field(default_factory=dict)

    def publish(self, threat: str, prefixes: Iterable[bytes]) -> None:
        """A new version of a list."""
        self.versions.setdefault(threat, []).append(sorted(set(prefixes)))

    def report(self, threat: str, *expressions: str, length: int = 4) -> None:
        """List expressions on top of what is listed."""
        before = self.versions.get(threat, [[]])[-1]
        self.publish(threat, [*before, *(full_hash(expression)[:length] for expression in expressions)])
        for expression in expressions:
            self.threats.setdefault(full_hash(expression), []).append(threat)

    def checksum(self, threat: str) -> bytes:
        now = b"".join(self.versions[threat][-1])
        if threat in self.wrong_checksum:
            self.wrong_checksum.discard(threat)
            now += b"something else"
        return hashlib.sha256(now).digest()

    def diff(self, threat: str, state: bytes) -> tuple[bool, list[int], list[bytes], bytes]:
        """Whether the update is whole, indices to remove, prefixes to add, and the new state."""
        versions = self.versions.setdefault(threat, [[]])
        now = versions[-1]
        new_state = f"{threat}:{len(versions) - 1}".encode()
        name, _, number = state.decode().partition(":")
        if name != threat:
            return True, [], now, new_state
        old = versions[int(number)]
        removed = [at for at, prefix in enumerate(old) if prefix not in now]
        return False, removed, [prefix for prefix in now if prefix not in old], new_state

    def matches(self, prefix: bytes) -> list[tuple[bytes, str]]:
        return [
            (full, threat) for full, threats in self.threats.items() if full.startswith(prefix) for threat in threats
        ]

    # -- v4

    def v4(self, asked: Asked) -> Reply:
        """Safe Browsing v4."""
        if asked.headers.get("x-goog-api-key") != self.key:
            return Reply(json.dumps({"error": {"code": 400, "message": "API key not valid."}}).encode(), 400)
        question = asked.json()
        if asked.path == "/v4/threatListUpdates:fetch":
            updates = [self._v4_update(item) for item in question["listUpdateRequests"]]
            return Reply.of({"listUpdateResponses": updates, "minimumWaitDuration": self.wait})
        assert asked.path == "/v4/fullHashes:find"
        info = question["threatInfo"]
        found = []
        for entry in info["threatEntries"]:
            for full, threat in self.matches(base64.b64decode(entry["hash"])):
                if threat in info["threatTypes"]:
                    match = {"threatType": threat, "platformType": "ANY_PLATFORM", "threatEntryType": "URL"}
                    found.append({**match, "threat": {"hash": b64(full)}, "cacheDuration": f"{self.cache}.000s"})
        return Reply.of({"matches": found, "negativeCacheDuration": f"{self.negative_cache}.5s"})

    def _v4_update(self, item: dict[str, Any]) -> dict[str, Any]:
        threat = item["threatType"]
        whole, removed, added, state = self.diff(threat, base64.b64decode(item["state"]))
        update: dict[str, Any] = {
            "threatType": threat,
            "threatEntryType": "URL",
            "platformType": item["platformType"],
            "responseType": "FULL_UPDATE" if whole else "PARTIAL_UPDATE",
            "newClientState": b64(state),
            "checksum": {"sha256": b64(self.checksum(threat))},
        }
        if added:
            update["additions"] = []
            for kind, data in self._json_additions(added, "numEntries"):
                update["additions"].append({"compressionType": "RICE" if kind == "riceHashes" else "RAW", kind: data})
        if removed:
            kind, data = self._json_removals(removed, "numEntries")
            update["removals"] = [{"compressionType": self.compression, kind: data}]
        return update

    def _json_additions(self, added: list[bytes], count_name: str) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        for length in sorted({len(prefix) for prefix in added}):
            group = sorted(prefix for prefix in added if len(prefix) == length)
            if length == 4 and self.compression == "RICE":
                # v4 and Web Risk: "re-interpreted as little-endian uint32s, sorted in ascending order".
                numbers = sorted(int.from_bytes(prefix, "little") for prefix in group)
                found.append(("riceHashes", rice_json(numbers, count_name)))
            else:
                found.append(("rawHashes", {"prefixSize": length, "rawHashes": b64(b"".join(group))}))
        return found

    def _json_removals(self, removed: list[int], count_name: str) -> tuple[str, dict[str, Any]]:
        if self.compression == "RAW":
            return "rawIndices", {"indices": removed}
        return "riceIndices", rice_json(removed, count_name)

    # -- Web Risk

    def web_risk(self, asked: Asked) -> Reply:
        """Web Risk."""
        if asked.headers.get("x-goog-api-key") != self.key:
            return Reply(json.dumps({"error": {"code": 403, "message": "Forbidden."}}).encode(), 403)
        if asked.path == "/v1/threatLists:computeDiff":
            assert asked.query["constraints.supportedCompressions"] == ["RAW", "RICE"]
            threat = asked.query["threatType"][0]
            state = base64.b64decode(asked.query.get("versionToken", [""])[0])
            whole, removed, added, new_state = self.diff(threat, state)
            diff: dict[str, Any] = {
                "responseType": "RESET" if whole else "DIFF",
                "newVersionToken": b64(new_state),
                "checksum": {"sha256": b64(self.checksum(threat))},
                "recommendedNextDiff": self.wait,
            }
            for kind, data in self._json_additions(added, "entryCount") if added else []:
                additions = diff.setdefault("additions", {})
                if kind == "rawHashes":
                    additions.setdefault(kind, []).append(data)
                else:
                    additions[kind] = data
            if removed:
                diff["removals"] = dict([self._json_removals(removed, "entryCount")])
            return Reply.of(diff)
        assert asked.path == "/v1/hashes:search"
        prefix = base64.b64decode(asked.query["hashPrefix"][0])
        found = [
            {"hash": b64(full), "threatTypes": [threat], "expireTime": "2026-11-21T12:05:00.123456789Z"}
            for full, threat in self.matches(prefix)
            if threat in asked.query["threatTypes"]
        ]
        return Reply.of({"threats": found, "negativeExpireTime": "2026-11-21T12:10:00Z"})

    # -- v5

    def v5(self, asked: Asked) -> Reply:
        """Safe Browsing v5: protocol buffers, and nothing else."""
        if asked.headers.get("x-goog-api-key") != self.key:
            return Reply(json.dumps({"error": {"code": 400, "message": "API key not valid."}}).encode(), 400)
        if asked.query.get("alt") != ["proto"]:
            return Reply(json.dumps({"error": {"code": 400, "message": "Unsupported Output Format"}}).encode(), 400)
        if asked.path == "/v5/hashLists:batchGet":
            states = [base64.urlsafe_b64decode(text) for text in asked.query.get("version", [])]
            body = b"".join(field_bytes(1, self._v5_list(name, states)) for name in asked.query["names"])
            return Reply(body, 200, {"Content-Type": "application/x-protobuf"})
        assert asked.path == "/v5/hashes:search"
        prefixes = [base64.urlsafe_b64decode(text) for text in asked.query["hashPrefixes"]]
        assert all(len(prefix) == 4 for prefix in prefixes)
        body = b""
        for full in sorted({full for prefix in prefixes for full, _ in self.matches(prefix)}):
            details = b""
            for threat in self.threats[full]:
                detail = field_varint(1, NUMBERS[threat])
                attributes = self.attributes.get(full, [])
                if attributes:
                    detail += field_bytes(2, b"".join(varint(number) for number in attributes))
                details += field_bytes(2, detail)
            body += field_bytes(1, field_bytes(1, full) + details)
        body += field_bytes(2, field_varint(1, self.cache))
        return Reply(body, 200, {"Content-Type": "application/x-protobuf"})

    def _v5_list(self, name: str, states: list[bytes]) -> bytes:
        threat = NAMES[name]
        state = next((one for one in states if one.startswith(threat.encode() + b":")), b"")
        whole, removed, added, new_state = self.diff(threat, state)
        body = field_bytes(1, name.encode()) + field_bytes(2, new_state)
        if not whole:
            body += field_varint(3, 1)
        if added:
            body += v5_additions(added)
        if removed:
            first, parameter, count, data = rice(removed, 3, 30)
            message = (
                field_varint(1, first) + field_varint(2, parameter) + field_varint(3, count) + field_bytes(4, data)
            )
            body += field_bytes(5, message)
        body += field_bytes(6, field_varint(1, int(self.wait.rstrip("s"))))
        if added or removed or whole:
            body += field_bytes(7, self.checksum(threat))
        # A field of a later version, which a reader passes over.
        return body + field_bytes(99, b"later")


def rice(numbers: list[int], least: int, most: int) -> tuple[int, int, int, bytes]:
    """First value, parameter, count and data."""
    if len(numbers) == 1:
        return numbers[0], 0, 0, b""
    parameter = best_parameter(numbers, least, most)
    return numbers[0], parameter, len(numbers) - 1, rice_encode(numbers, parameter)


def rice_json(numbers: list[int], count_name: str) -> dict[str, Any]:
    first, parameter, count, data = rice(numbers, 2, 28)
    if not count:
        return {"firstValue": str(first)}
    return {"firstValue": str(first), "riceParameter": parameter, count_name: count, "encodedData": b64(data)}


def v5_additions(added: list[bytes]) -> bytes:
    """The additions of a v5 list: big-endian numbers of one length."""
    (length,) = {len(prefix) for prefix in added}
    numbers = sorted(int.from_bytes(prefix, "big") for prefix in added)
    least, most = {4: (3, 30), 8: (35, 62), 16: (99, 126), 32: (227, 254)}[length]
    first, parameter, count, data = rice(numbers, least, most)
    parts = [first >> 64 * place & (1 << 64) - 1 for place in reversed(range(max(1, length // 8)))]
    message = field_varint(1, parts[0])
    for number, part in enumerate(parts[1:], 2):
        message += varint(number << 3 | 1) + part.to_bytes(8, "little")
    at = len(parts) + 1
    message += field_varint(at, parameter) + field_varint(at + 1, count) + field_bytes(at + 2, data)
    return field_bytes({4: 4, 8: 9, 16: 10, 32: 11}[length], message)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field_varint(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value) if value else b""


def field_bytes(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data
