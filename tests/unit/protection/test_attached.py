"""Which attachments are looked into, and what is said of the others."""

from __future__ import annotations

import pytest

from app.protection.attached import MOST_BYTES, MOST_BYTES_EACH, MOST_FILES, chosen, of_interest
from connectors.base.types import Attached


def attached(number: int, kind: str = "image/png", size: int = 1_000, *, is_file: bool = True) -> Attached:
    return Attached(f"id{number}", f"file{number}", kind, size, is_file)


@pytest.mark.parametrize(
    "kind",
    [
        "image/png",
        "application/pdf",
        "text/html",
        "application/vnd.ms-excel",
        "application/octet-stream",
        "text/plain",
        "",
    ],
)
def test_whatever_may_hold_a_link_is_of_interest(kind: str) -> None:
    assert of_interest(attached(1, kind))


@pytest.mark.parametrize("kind", ["audio/mpeg", "video/mp4", "application/pkcs7-signature", "application/pkcs7-mime"])
def test_what_holds_no_link_that_can_be_read_is_not(kind: str) -> None:
    assert not of_interest(attached(1, kind))
    assert chosen([attached(1, kind)]) == ([], [])


def test_pictures_come_before_archives_and_all_keep_their_numbers() -> None:
    files = [attached(n, "application/zip") for n in range(MOST_FILES)] + [attached(99)]
    wanted, left = chosen(files)
    assert [at for at, _ in wanted] == [*range(1, MOST_FILES), MOST_FILES + 1]
    assert [each.id for each in left] == [f"id{MOST_FILES - 1}"]


def test_what_is_too_large_or_no_file_is_left() -> None:
    files = [attached(1, size=MOST_BYTES_EACH + 1), attached(2, is_file=False), attached(3)]
    wanted, left = chosen(files)
    assert [at for at, _ in wanted] == [3]
    assert {each.id for each in left} == {"id1", "id2"}


def test_all_together_stay_below_a_bound() -> None:
    files = [attached(n, size=MOST_BYTES_EACH) for n in range(6)]
    wanted, left = chosen(files)
    assert sum(each.size for _, each in wanted) <= MOST_BYTES
    assert len(wanted) + len(left) == 6
