"""From how many points on a level begins: what is stored, what is not, and what no number changes."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from app.policy.engine import PolicySnapshot
from app.policy.service import make_snapshot
from app.tenants.levels import LEVEL_FROM, level_from
from app.verdicts.scoring import DEFAULT_THRESHOLDS, Level, Signal, Thresholds, score


def made(stored: Any) -> PolicySnapshot:
    return make_snapshot(uuid.UUID(int=1), 1, "Nordwind", {"gateway": {"level_from": stored}}, (), frozenset())


def test_without_a_word_levels_begin_where_they_always_did() -> None:
    assert LEVEL_FROM == (DEFAULT_THRESHOLDS.suspicious, DEFAULT_THRESHOLDS.malicious) == (40, 85)
    assert PolicySnapshot(1).level_from == (40, 85)
    assert make_snapshot(uuid.UUID(int=1), 1, "N", {}, (), frozenset()).level_from == (40, 85)


def test_what_is_stored_is_taken() -> None:
    assert made({"suspicious": 1, "malicious": 200}).level_from == (1, 200)
    assert made({"malicious": 70}).level_from == (40, 70)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [40, 85],
        {"suspicious": 0},
        {"malicious": 201},
        {"suspicious": 85, "malicious": 85},
        {"suspicious": 90},
        {"suspicious": "10"},
        {"suspicious": True},
        {"suspicious": 1.5},
        {"malicious": None},
    ],
)
def test_what_is_no_pair_of_points_is_not_used(stored: object) -> None:
    assert level_from(stored) == LEVEL_FROM
    assert made(stored).level_from == LEVEL_FROM


def test_the_copy_on_disk_has_them_and_an_older_copy_the_usual_ones() -> None:
    policy = PolicySnapshot(1, level_from=(10, 120))
    data = json.loads(json.dumps(policy.as_json()))
    assert PolicySnapshot.from_json(data) == policy
    del data["level_from"]
    assert PolicySnapshot.from_json(data).level_from == (40, 85)


@pytest.mark.parametrize("bounds", [(1, 2), (40, 85), (101, 102), (199, 200)])
def test_a_listing_as_malicious_is_malicious_whatever_the_points(bounds: tuple[int, int]) -> None:
    listed = Signal("listed_malicious", 100, decides=Level.MALICIOUS)
    verdict = score([listed], final_url="", now=datetime(2026, 1, 1, tzinfo=UTC), thresholds=Thresholds(*bounds))
    assert verdict.level is Level.MALICIOUS
