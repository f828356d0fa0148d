"""The offline command's files: nothing is written over itself, lost, or silently left out."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest

from app.commands.files import OfflineReport, restore_files, transform_files
from app.kit.crypto import KeyRing
from app.kit.errors import Refused

KEYS = KeyRing({1: bytes(range(32))})
MESSAGE = (
    b"From: a@other.example\r\nContent-Type: text/html\r\n\r\n"
    b'<a href="javascript:alert(1)">x</a> <a href="http://evil.example/a">x</a>\r\n'
)
"""A message that links alone cannot restore: it needs its undo record."""


def transformed(source: Path, target: Path) -> OfflineReport:
    return transform_files(source, target, KEYS, "https://gw.example", "l")


def test_a_message_is_not_written_over_itself_in_the_folder_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MESSAGE)
    for target in (tmp_path, tmp_path / "." / "a.eml"):
        with pytest.raises(Refused):
            transformed(tmp_path / "a.eml", target)
    (tmp_path / "other").symlink_to(tmp_path / "a.eml")
    with pytest.raises(Refused):
        transformed(tmp_path / "a.eml", tmp_path / "other")
    assert (tmp_path / "a.eml").read_bytes() == MESSAGE


def test_an_output_folder_inside_the_input_is_not_read_by_a_second_run(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MESSAGE)
    for _ in range(2):
        assert transformed(tmp_path, tmp_path / "out").counts["messages"] == 1
    assert not (tmp_path / "out" / "out").exists()


def test_undo_records_are_no_messages_and_go_with_a_message_rewritten_before(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.eml").write_bytes(MESSAGE)
    transformed(tmp_path / "in", tmp_path / "once")
    assert transformed(tmp_path / "once", tmp_path / "twice").counts["messages"] == 1
    assert restore_files(tmp_path / "twice", tmp_path / "back", KEYS).counts["links_failed"] == 0
    assert (tmp_path / "back" / "a.eml").read_bytes() == MESSAGE


def test_a_stale_undo_record_beside_an_original_does_not_replace_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.eml").write_bytes(MESSAGE)
    (tmp_path / "in" / "a.eml.undo").write_bytes(b"postern-undo-1\nstale")
    transformed(tmp_path / "in", tmp_path / "out")
    assert restore_files(tmp_path / "out", tmp_path / "back", KEYS).counts["links_failed"] == 0
    assert (tmp_path / "back" / "a.eml").read_bytes() == MESSAGE


def test_a_foreign_file_with_the_name_of_an_undo_record_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"nothing to rewrite")
    (tmp_path / "b.undo").write_bytes(b"my own notes")
    transformed(tmp_path / "a.eml", tmp_path / "b")
    assert (tmp_path / "b.undo").read_bytes() == b"my own notes"


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xff" * 40,
        b"postern-undo-1\n",
        b"postern-undo-1\n" + zlib.compress(b"[" * 100_000),
        b"postern-undo-1\n" + zlib.compress(b'{"sha256":"x","length":1e400,"splices":[]}'),
        b"postern-undo-1\n" + zlib.compress(b'{"sha256":"x","length":9,"splices":[[0]]}'),
        b"postern-undo-1\n" + zlib.compress(b"null"),
    ],
)
def test_a_damaged_undo_record_is_reported_and_the_links_still_restored(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "a.eml").write_bytes(MESSAGE)
    transformed(tmp_path / "a.eml", tmp_path / "b.eml")
    (tmp_path / "b.eml.undo").write_bytes(record)
    report = restore_files(tmp_path / "b.eml", tmp_path / "c.eml", KEYS)
    assert report.counts["links_failed"] == 1
    assert report.files[0]["failed"][0]["reason"].startswith("undo_mismatch")
    assert b'"http://evil.example/a"' in (tmp_path / "c.eml").read_bytes()


def test_the_undo_record_of_another_message_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MESSAGE)
    (tmp_path / "b.eml").write_bytes(MESSAGE.replace(b">x<", b">y<"))
    transformed(tmp_path / "a.eml", tmp_path / "a.out")
    transformed(tmp_path / "b.eml", tmp_path / "b.out")
    (tmp_path / "a.out.undo").replace(tmp_path / "b.out.undo")
    assert restore_files(tmp_path / "b.out", tmp_path / "back", KEYS).counts["links_failed"] == 1


def test_a_file_that_cannot_be_written_is_named_and_the_others_are_handled(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    for name in ("a.eml", "b.eml", "n" * 253):  # the last name leaves no room for its undo record
        (source / name).write_bytes(MESSAGE)
    (target / "a.eml").mkdir()
    report = transformed(source, target)
    assert {file["name"] for file in report.files if "error" in file} == {"a.eml", "n" * 253}
    assert (report.counts["failed"], report.counts["messages"]) == (2, 1)
    assert (target / ("n" * 253)).read_bytes() == MESSAGE
    assert not list(target.glob(".postern*"))


def test_links_that_lead_nowhere_or_in_circles_do_no_harm(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a b \u00fc.eml").write_bytes(MESSAGE)
    (source / "dangling").symlink_to(source / "nowhere")
    (source / "circle").symlink_to(source)
    os.mkfifo(source / "pipe")
    assert transformed(source, tmp_path / "out").counts["messages"] == 1
    restore_files(tmp_path / "out", tmp_path / "back", KEYS)
    assert (tmp_path / "back" / "a b \u00fc.eml").read_bytes() == MESSAGE


def test_a_name_that_is_no_text_is_reported_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from app.cli import _finish

    source = tmp_path / "in"
    source.mkdir()
    (source / os.fsdecode(b"\xff.eml")).write_bytes(MESSAGE)
    _finish(transformed(source, tmp_path / "out").as_json(), tmp_path / "report.json")
    assert capsys.readouterr().out.startswith("changed=1")
    assert json.loads((tmp_path / "report.json").read_text())["files"][0]["name"] == "\udcff.eml"
