from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts import feed_build
from app.verdicts.canonical import NotCanonical
from app.verdicts.feed import entry_expression, parse
from app.verdicts.feed_build import build, fast_parts
from app.verdicts.feed_store import FeedStore, MappedStore, StoreDamaged
from app.verdicts.scoring import Level

LINES = [
    "evil.example",
    "http://host.example/kit/",
    "http://host.example/exact?id=1",
    "https://203.0.113.9/",
    "bücher.example",
    "suspicious\todd.example",
]


def store(folder: Path, *lists: tuple[str, list[str]]) -> FeedStore:
    build(folder / "store.pfs", lists)
    made = FeedStore(folder / "store.pfs")
    made.refresh()
    return made


@pytest.mark.parametrize(
    ("url", "levels"),
    [
        ("https://www.evil.example/x?y#z", [Level.MALICIOUS]),
        ("http://host.example:81/kit/deep/er", [Level.MALICIOUS]),
        ("http://host.example/exact?id=1", [Level.MALICIOUS]),
        ("http://host.example/exact?id=2", []),
        ("http://0xCB007109/p", [Level.MALICIOUS]),
        ("http://xn--bcher-kva.example/", [Level.MALICIOUS]),
        ("https://a.odd.example/", [Level.SUSPICIOUS]),
        ("https://good.example/", []),
        ("javascript:alert(1)", []),
    ],
)
def test_a_store_covers_what_its_lists_cover(tmp_path: Path, url: str, levels: list[Level]) -> None:
    made = store(tmp_path, ("list", LINES))
    assert [signal.decides for signal in made.signals(url)] == levels


def test_each_list_is_named_once_with_its_worst_entry(tmp_path: Path) -> None:
    made = store(
        tmp_path,
        ("first", ["suspicious\tevil.example", "malicious\thttp://evil.example/x"]),
        ("second", ["suspicious\tevil.example"]),
    )
    signals = made.signals("http://evil.example/x")
    assert {(signal.source, signal.decides) for signal in signals} == {
        ("first", Level.MALICIOUS),
        ("second", Level.SUSPICIOUS),
    }


def test_ten_thousand_entries_are_all_found_and_nothing_else(tmp_path: Path) -> None:
    made = store(tmp_path, ("list", [f"http://h{number}.example/p{number}" for number in range(10_000)]))
    assert len(made) == 10_000
    assert all(made.signals(f"http://h{number}.example/p{number}?q") for number in range(10_000))
    assert not any(made.signals(f"http://h{number}.example/q{number}") for number in range(10_000))


def test_an_empty_store_is_one(tmp_path: Path) -> None:
    made = store(tmp_path, ("list", ["# nothing"]))
    assert (len(made), made.signals("https://x.example/"), made.error) == (0, (), "")


def test_a_swapped_store_is_mapped_and_a_missing_or_damaged_one_changes_nothing(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "store.pfs"
    made = FeedStore(path, lambda: now)
    assert made.refresh() == 0
    assert made.error == ""
    build(path, [("list", ["evil.example"])])
    now = 1.0
    assert made.refresh() == 1
    build(path, [("list", ["other.example"])])
    now = 2.0
    assert made.refresh() == 2
    assert made.signals("https://other.example/")
    for damage in (b"", b"x" * 1_000, path.read_bytes()[:-8]):
        (tmp_path / "new").write_bytes(damage)
        (tmp_path / "new").replace(path)
        now += 1
        assert made.refresh() == 2
        assert made.error
    path.unlink()
    now += 1
    made.refresh()
    assert made.signals("https://other.example/")


def test_any_changed_bit_is_noticed(tmp_path: Path) -> None:
    build(tmp_path / "store.pfs", [("list", LINES)])
    data = (tmp_path / "store.pfs").read_bytes()
    for position in [*range(28), *range(100, len(data), 20_011), len(data) - 1]:
        changed = bytearray(data)
        changed[position] ^= 4
        (tmp_path / "changed.pfs").write_bytes(changed)
        with pytest.raises(StoreDamaged):
            MappedStore(tmp_path / "changed.pfs")


def test_a_poisoned_list_is_held(tmp_path: Path) -> None:
    path = tmp_path / "store.pfs"
    build(path, [("list", ["evil.example"])])
    report = build(path, [("list", ["evil.example", "https://www.evil2.example/", "google.com"])])
    assert report.held == ("list:3: lists the whole of google.com",)
    assert len(MappedStore(path)) == 1
    assert len(MappedStore(tmp_path / "store.pfs.held")) == 3
    assert build(path, [("list", ["google.com"])], force=True).held == ()
    assert len(MappedStore(path)) == 1


def test_a_list_about_pages_of_a_big_site_is_not_held(tmp_path: Path) -> None:
    report = build(tmp_path / "store.pfs", [("list", ["https://docs.google.com/forms/d/evil"])])
    assert report.held == ()


def test_a_list_that_shrank_is_held(tmp_path: Path) -> None:
    path = tmp_path / "store.pfs"
    build(path, [("list", [f"h{number}.example" for number in range(1_000)])])
    report = build(path, [("list", [f"h{number}.example" for number in range(100)])])
    assert report.held == ("holds 100 entries; it held 1000 before",)
    assert len(MappedStore(path)) == 1_000


def test_lines_that_are_none_are_counted_and_named(tmp_path: Path) -> None:
    report = build(tmp_path / "store.pfs", [("list", ["", "# x", "a b", "localhost", "evil.example", "http://"])])
    assert (report.entries, report.refused) == (1, 3)
    assert report.problems[0].startswith("list:3: ")


def test_the_command_builds_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("evil.example\nnonsense here\n")
    assert feed_build.main([str(tmp_path / "o.pfs"), str(tmp_path / "mine.txt"), "--level", "suspicious"]) == 0
    assert "1 entries, 1 lines passed over" in capsys.readouterr().out
    mapped = MappedStore(tmp_path / "o.pfs")
    assert mapped.sources == ["mine"]
    assert mapped.find(("evil.example/",))[0].level is Level.SUSPICIOUS
    (tmp_path / "mine.txt").write_text("paypal.com\n")
    assert feed_build.main([str(tmp_path / "o.pfs"), str(tmp_path / "mine.txt")]) == 3
    assert "held" in capsys.readouterr().out


_ENTRIES = st.from_regex(
    r"(?:https?://)?[a-zA-Z0-9.\-]{1,20}(?::[0-9]{0,5})?(?:/[a-zA-Z0-9./%~ @:;,-]{0,20})?"
    r"(?:\?[a-z0-9=&%/?]{0,10})?(?:#[a-z]{0,3})?",
    fullmatch=True,
)


@given(_ENTRIES)
def test_the_short_way_to_an_expression_gives_what_the_long_way_gives(entry: str) -> None:
    try:
        long_way = entry_expression(entry)
    except NotCanonical:
        with pytest.raises(NotCanonical):
            fast_parts(entry)
        return
    assert fast_parts(entry) == (long_way.partition("/")[0], long_way)


@given(st.lists(_ENTRIES, max_size=20))
def test_text_list_and_store_agree(entries: list[str]) -> None:
    levels = parse("\n".join(f"malicious\t{entry}" for entry in entries)).levels
    found = set()
    for entry in entries:
        try:
            found.add(fast_parts(entry.strip())[1])
        except NotCanonical:
            continue
    assert found == set(levels)
