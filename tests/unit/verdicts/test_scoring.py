from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from app.verdicts.scoring import Level, Signal, Thresholds, Verdict, score
from app.verdicts.sentences import SENTENCES, readable, sentence

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def verdict(*signals: Signal, degraded: bool = False) -> Verdict:
    return score(signals, final_url="https://x.example/", now=NOW, degraded=degraded)


def test_nothing_found_is_unknown_and_not_clean() -> None:
    assert verdict().level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("weights", "level"),
    [((39,), Level.UNKNOWN), ((40,), Level.SUSPICIOUS), ((45, 39), Level.SUSPICIOUS), ((45, 40), Level.MALICIOUS)],
)
def test_weights_add_up_to_a_level(weights: tuple[int, ...], level: Level) -> None:
    codes = ("odd_port", "download")
    assert verdict(*map(Signal, codes, weights)).level is level


def test_the_score_stays_between_0_and_100() -> None:
    assert verdict(Signal("download", 90), Signal("odd_port", 90)).score == 100
    assert verdict(Signal("known_good", -50)).score == 0


def test_what_sees_one_fact_twice_counts_once() -> None:
    assert verdict(Signal("homograph", 75), Signal("mixed_script", 50), Signal("punycode", 5)).score == 75
    assert verdict(Signal("odd_port", 15, (("port", "1"),)), Signal("odd_port", 15, (("port", "2"),))).score == 15


def test_a_listing_is_not_outvoted() -> None:
    listed = Signal("listed_malicious", 0, decides=Level.MALICIOUS)
    good = Signal("known_good", -50, decides=Level.CLEAN)
    assert verdict(listed, good).level is Level.MALICIOUS


def test_a_good_name_does_not_outvote_what_was_found() -> None:
    good = Signal("known_good", 0, decides=Level.CLEAN)
    assert verdict(good).level is Level.CLEAN
    assert verdict(good, Signal("download", 50)).level is Level.SUSPICIOUS


def test_a_score_above_a_deciding_level_wins() -> None:
    assert verdict(Signal("listed_suspicious", 60, decides=Level.SUSPICIOUS), Signal("download", 35)).level is (
        Level.MALICIOUS
    )


def test_thresholds_are_the_tenants() -> None:
    strict = score([Signal("odd_port", 15)], final_url="", now=NOW, thresholds=Thresholds(suspicious=10, malicious=15))
    assert strict.level is Level.MALICIOUS


def test_a_degraded_verdict_is_soon_asked_again() -> None:
    assert verdict(degraded=True).expires_at <= NOW + timedelta(seconds=15)
    assert verdict().expires_at == NOW + timedelta(minutes=5)


def test_evidence_is_ordered_by_weight() -> None:
    found = verdict(Signal("odd_port", 15, (("port", "81"),)), Signal("download", 35, (("name", "x.exe"),)))
    assert [signal.code for signal in found.signals] == ["download", "odd_port"]


def test_the_json_form_is_plain_and_complete() -> None:
    data = json.loads(json.dumps(verdict(Signal("download", 35, (("name", "a\x00\u202eb.exe"),))).as_json()))
    assert data["level"] == "unknown"
    assert data["signals"] == [
        {
            "code": "download",
            "weight": 35,
            "fields": {"name": "a  b.exe"},
            "source": "heuristic",
            "text": "The address leads to a file that can run programs (a  b.exe).",
        }
    ]
    assert data["checked_at"] == "2026-11-21T12:00:00+00:00"


def test_an_unknown_code_shows_itself() -> None:
    assert sentence("from_a_later_version", {}) == "from_a_later_version"
    assert sentence("odd_port", {}) == "odd_port"


def test_hostile_fields_cannot_break_a_sentence() -> None:
    hostile = "{0.__class__}\x1b[2J" + "x" * 500
    text = sentence("odd_port", {"port": hostile})
    assert "{0.__class__}" in text
    assert text.isprintable()
    assert len(text) < 250


def test_every_sentence_is_one() -> None:
    for text in SENTENCES.values():
        assert text[0].isupper()
        assert text.endswith(".")


def test_text_is_made_readable() -> None:
    assert readable("a\u202eb\nc") == "a b c"
    assert readable("x" * 200, 10) == "x" * 9 + "…"
