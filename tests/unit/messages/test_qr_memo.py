"""Pictures that come again are not read again."""

from __future__ import annotations

import pytest

from app.messages.qr import images
from app.messages.qr.memo import Memo
from app.messages.qr.types import QrLimits
from tests.unit.messages import qr_pictures as pictures


def test_a_picture_that_was_read_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pictures.file(pictures.picture())
    first = images.scan(picture)
    monkeypatch.setattr(images, "load", None)
    assert images.scan(picture) is first


def test_other_limits_are_another_result() -> None:
    picture = pictures.file(pictures.picture())
    assert images.scan(picture).codes
    assert images.scan(picture, QrLimits(max_pixels=10)).codes == ()


def test_the_least_recently_used_result_is_forgotten_first() -> None:
    memo = Memo[int](2)
    made: list[int] = []

    def get(number: int) -> int:
        def make() -> int:
            made.append(number)
            return number

        return memo.get(bytes([number]), None, make)

    for number in (1, 2, 1, 3, 1, 2):
        assert get(number) == number
    assert made == [1, 2, 3, 2]


def test_a_failure_is_not_remembered() -> None:
    memo = Memo[int]()

    def fail() -> int:
        raise ValueError

    with pytest.raises(ValueError):
        memo.get(b"x", None, fail)
    assert memo.get(b"x", None, lambda: 5) == 5
