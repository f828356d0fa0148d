from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.canonical import lookup_expressions, lookup_parts
from app.verdicts.feed_build import MAX_ENTRIES, collect, expression_keys, shrunk_or_grown
from app.verdicts.feed_keys import EPOCH, MAX_DAYS, entry_tag, since_date, since_days
from app.verdicts.feed_merge import Part, StoreRun, newly_listed, part_of, write
from app.verdicts.feed_store import Hit, MappedStore, StoreSource
from app.verdicts.scoring import Level
from app.verdicts.sources.types import Entry, SourceFailed, Tally

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def runs(entries: Iterable[Entry | str], level: Level = Level.MALICIOUS) -> list[StoreRun]:
    """Entries as runs of a store of their own."""
    listed = [entry if isinstance(entry, Entry) else Entry(entry) for entry in entries]
    return list(collect(listed, level, Tally()).runs)  # type: ignore[arg-type]  # both have slices


def made(path: Path, *parts: Part) -> MappedStore:
    write(path, parts, now=NOW)
    return MappedStore(path)


def simple(path: Path, *entries: Entry | str) -> MappedStore:
    return made(path, Part(StoreSource("L"), runs(entries)))


def found(store: MappedStore, url: str) -> list[Hit]:
    return store.find_parts(*lookup_parts(url))


def test_a_source_that_did_not_change_is_taken_over_beside_one_that_did(tmp_path: Path) -> None:
    first = made(
        tmp_path / "1.pfs",
        Part(StoreSource("A"), runs(["a.example", "both.example"])),
        Part(StoreSource("B", weight=40), runs(["b.example", "both.example"])),
    )
    kept = part_of(first, "B")
    assert kept is not None
    second = made(
        tmp_path / "2.pfs",
        Part(StoreSource("B", weight=40), [kept]),
        Part(StoreSource("A"), runs(["new.example"]), history=part_of(first, "A")),
    )
    assert [(source.name, source.entries, source.weight) for source in second.header.sources] == [
        ("B", 2, 40),
        ("A", 1, 100),
    ]
    assert [hit.source for hit in found(second, "http://both.example/")] == ["B"]
    assert [hit.source for hit in found(second, "http://new.example/")] == ["A"]
    assert found(second, "http://a.example/") == []
    assert part_of(second, "C") is None


def test_additions_and_removals_change_what_was_there(tmp_path: Path) -> None:
    before = simple(tmp_path / "1.pfs", "a.example", "b.example")
    kept = part_of(before, "L")
    assert kept is not None
    gone = expression_keys(["http://b.example/", "not one"], Tally())
    after = made(tmp_path / "2.pfs", Part(StoreSource("L"), [kept, *runs(["c.example"])], without=gone))
    assert [bool(found(after, f"http://{name}.example/")) for name in "abc"] == [True, False, True]


def test_of_entries_for_one_thing_the_worst_level_and_the_first_day_count(tmp_path: Path) -> None:
    store = simple(
        tmp_path / "s.pfs",
        Entry("a.example", Level.SUSPICIOUS, date(2026, 1, 2)),
        Entry("http://a.example/", Level.MALICIOUS, date(2026, 5, 6)),
        Entry("https://a.example", Level.SUSPICIOUS),
    )
    assert len(store) == 1
    assert found(store, "http://a.example/x") == [Hit("a.example/", Level.MALICIOUS, "L", date(2026, 1, 2), 100)]


@pytest.mark.parametrize(
    ("since", "kept"),
    [
        (None, None),
        (date(2026, 11, 21), date(2026, 11, 21)),
        (date(1999, 1, 1), date(2015, 1, 2)),
        (date(2999, 1, 1), date(2037, 6, 5)),
    ],
)
def test_days_outside_of_what_an_entry_holds_become_the_nearest(since: date | None, kept: date | None) -> None:
    assert since_date(entry_tag(Level.MALICIOUS, 127, since)) == kept
    assert since_days(EPOCH) == 1
    assert since_days(date(2999, 1, 1)) == MAX_DAYS


def test_what_is_new_or_worse_is_newly_listed(tmp_path: Path) -> None:
    old = simple(tmp_path / "1.pfs", "old.example", Entry("worse.example", Level.SUSPICIOUS), Entry("better.example"))
    new = simple(
        tmp_path / "2.pfs", "old.example", "worse.example", Entry("better.example", Level.SUSPICIOUS), "new.example"
    )
    newly_listed(old, new, tmp_path / "d.pfs")
    delta = MappedStore(tmp_path / "d.pfs")
    names = ("old", "worse", "better", "new")
    assert [bool(found(delta, f"http://{name}.example/")) for name in names] == [False, True, False, True]
    newly_listed(None, new, tmp_path / "d.pfs")
    assert len(MappedStore(tmp_path / "d.pfs")) == 4
    newly_listed(new, new, tmp_path / "d.pfs")
    assert len(MappedStore(tmp_path / "d.pfs")) == 0


def test_many_entries_in_several_runs_become_one_ascending_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.verdicts.feed_build._RUN", 1_000)
    names = [f"http://h{number % 700}.example/{number}" for number in range(5_500)]
    collected = collect([Entry(name) for name in names], Level.MALICIOUS, Tally())
    assert len(collected.runs) == 6
    store = made(tmp_path / "s.pfs", Part(StoreSource("L"), collected.runs))
    assert len(store) == 5_500
    assert all(found(store, name) for name in names)
    fences = list(store.fences)
    assert fences == sorted(fences)
    assert (fences[0], fences[-1]) == (0, 5_500)


def test_a_list_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.verdicts.feed_build._RUN", 10)
    monkeypatch.setattr("app.verdicts.feed_build.MAX_ENTRIES", 100)
    endless = (Entry(f"h{number}.example") for number in iter(int, 1))
    with pytest.raises(SourceFailed, match="more than 100 entries"):
        collect(endless, Level.MALICIOUS, Tally())
    assert MAX_ENTRIES > 10_000_000


@pytest.mark.parametrize(
    ("before", "now", "refused", "held"),
    [
        (0, 0, 0, False),
        (0, 0, 5, True),
        (0, 1_000_000, 0, False),
        (5, 0, 0, True),
        (99, 1, 0, False),
        (1_000, 101, 0, False),
        (1_000, 100, 0, True),
        (1_000, 99_999, 0, False),
        (1_000, 100_000, 0, True),
        (100_000, 2_000_000, 0, False),
    ],
)
def test_what_counts_as_shrunk_or_grown(before: int, now: int, refused: int, held: bool) -> None:
    assert bool(shrunk_or_grown(before, now, refused)) == held


_HOSTS = st.lists(st.sampled_from(["a", "b", "www", "c1"]), min_size=1, max_size=7).map(lambda labels: ".".join(labels))
_PATHS = st.lists(st.sampled_from(["x", "y.html", "z%20", ".."]), max_size=6).map("/".join)
_URLS = st.tuples(_HOSTS, _PATHS, st.sampled_from(["", "?", "?q=1", "?q=%31"])).map(
    lambda parts: f"http://{parts[0]}.example/{parts[1]}{parts[2]}"
)


@given(st.lists(_URLS, max_size=12), _URLS)
def test_stopping_at_the_host_finds_what_looking_under_every_expression_finds(
    tmp_path_factory: pytest.TempPathFactory, entries: list[str], url: str
) -> None:
    store = simple(
        tmp_path_factory.getbasetemp() / "property.pfs", *entries, *(entry.rsplit("/", 1)[0] for entry in entries)
    )
    by_host = store.find_parts(*lookup_parts(url))
    by_expression = store.find(lookup_expressions(url))
    assert sorted(hit.expression for hit in by_host) == sorted(hit.expression for hit in by_expression)
