from __future__ import annotations

import asyncio
import gzip
import io
import zipfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.errors import Refused
from app.verdicts.feed_build import collect
from app.verdicts.scoring import Level
from app.verdicts.sources import lists
from app.verdicts.sources.catalogue import KINDS
from app.verdicts.sources.keys import read_secret
from app.verdicts.sources.lists import FileList
from app.verdicts.sources.registry import kind_of, kinds, make_list_source, make_signal_source
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import Answer, Entry, FetchedFile, Kind, SourceConfig, SourceFailed, Tally


class NoClient:
    """Nothing is asked over a network here."""

    async def request(self, method: str, url: str, **_: object) -> Answer:
        raise AssertionError(f"{method} {url}")

    def fetch(self, url: str, **_: object) -> AbstractAsyncContextManager[FetchedFile]:
        raise AssertionError(url)


def zipped(*files: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", packing) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


def read(path: Path, content: bytes, **options: str) -> list[str]:
    path.write_bytes(content)
    return asyncio.run(_values(FileList(SourceConfig("L", "list", f"file:{path}", options=options), "")))


async def _values(source: FileList) -> list[str]:
    async with source.download(NoClient(), None) as download:
        return [entry.value for entry in download.entries]


@pytest.mark.parametrize(
    "content",
    [
        b"a.example\nb.example\n",
        b"\xef\xbb\xbfa.example\r\nb.example\r\n",
        gzip.compress(b"a.example\nb.example\n", mtime=0),
        zipped(("list.txt", b"a.example\nb.example\n")),
        zipped(("list.txt", b"a.example\nb.example\n"), packing=zipfile.ZIP_STORED),
    ],
    ids=["plain", "byte order mark", "gzip", "zip", "zip, stored"],
)
def test_a_file_is_read_in_every_packing(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "list", content) == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(b"a.example\n" * 999, mtime=0)[:-9], "cut_off"),
        (gzip.compress(b"a.example\n" * 999, mtime=0)[:-1], "cut_off"),
        (zipped(("list.txt", b"a.example\n" * 999))[:-30], "cut_off"),
        (zipped(("a", b"a.example"), ("b", b"b.example")), "format"),
        (zipped(("a", b"a.example"), packing=zipfile.ZIP_BZIP2), "format"),
        (b'[{"url": "https://a.example/"}, {"url"', "format"),
    ],
    ids=["gzip without its end", "gzip without its last byte", "zip cut off", "two files", "bzip2", "broken JSON"],
)
def test_what_is_broken_off_or_of_another_kind_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(SourceFailed) as failed:
        read(tmp_path / "list", content)
    assert failed.value.reason == reason


def test_a_small_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(SourceFailed) as failed:
        read(tmp_path / "list", gzip.compress(b"a.example\n" * 50_000, mtime=0))
    assert failed.value.reason == "too_large"


def test_a_line_without_end_is_no_entry_and_takes_no_memory(tmp_path: Path) -> None:
    found = read(tmp_path / "list", b"x" * 300_000 + b"\na.example\n", format="lines")
    tally = Tally()
    assert max(map(len, found)) <= lists.MAX_LINE
    collected = collect([Entry(value) for value in found], Level.MALICIOUS, tally)
    assert (collected.read, tally.refused > 0) == (1, True)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    source = FileList(SourceConfig("L", "list", f"file:{tmp_path}/none"), "")
    with pytest.raises(SourceFailed, match="cannot be read"):
        asyncio.run(_values(source))


@given(
    st.sampled_from(
        [b"", gzip.compress(b"a.example\n", mtime=0), zipped(("x", b"a.example\n")), b'[{"url":"x"}]', b"url,a\n"]
    ),
    st.binary(max_size=60),
    st.integers(0, 200),
)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, noise: bytes, place: int
) -> None:
    content = start[:place] + noise + start[place + len(noise) :]
    reason = ""
    try:
        read(tmp_path_factory.getbasetemp() / "any-list", content)
    except SourceFailed as failed:
        reason = failed.reason
    assert reason in ("", "format", "cut_off")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_list_has_terms_and_a_class(kind: Kind) -> None:
    assert kind.licence.note
    assert kind.every_seconds >= kind.least_seconds
    config = new_config(kind.name, address=kind.address or "https://l.example/", secret_ref="env:KEY")
    assert make_list_source(config, "key").config is config
    with pytest.raises(Refused):
        make_signal_source(config, "key")


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="openphish"):
        kind_of("nope")
    assert all(name == kind.name for name, kind in kinds().items())


def test_a_key_is_read_from_where_it_is_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " secret ")
    (tmp_path / "key").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")
    monkeypatch.delenv("NO_KEY", raising=False)
    assert read_secret("env:A_KEY") == read_secret(f"file:{tmp_path}/key") == "secret"
    assert read_secret("") == ""
    for reference in ("env:NO_KEY", f"file:{tmp_path}/none", f"file:{tmp_path}/empty", "secret"):
        with pytest.raises(SourceFailed) as failed:
            read_secret(reference)
        assert failed.value.reason == "secret"
        assert "secret" not in str(failed.value).replace("secrets", "")
