"""A charset that only the markup names hides no link, whether a reader goes by it or not."""

from __future__ import annotations

import pytest

from app.messages import restore, transform
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message, multipart, part

TARGET = "http://evil.example/a"
META = '<html><head><meta charset="{}"></head><body>'
CONTENT_TYPE = '<meta http-equiv="Content-Type" content="text/html; charset={}">'


def _there_and_back(raw: bytes) -> bytes:
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, gateway.plan()).content == done.content
    return done.content


@pytest.mark.parametrize("form", [META, CONTENT_TYPE])
@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("iso-2022-jp", "\u65e5\u672c\u8a9e"),
        ("Shift_JIS", "\u30bd\u8868\u80fd"),
        ("gb18030", "\u4e2d\u6587"),
        ("euc-kr", "\ud55c\uae00"),
        ("iso-2022-kr", "\ud55c\uae00"),
        ("hz", "\u4e2d\u6587"),
        ("windows-1251", "\u043f\u0440\u0438\u0432\u0435\u0442"),
    ],
)
def test_a_link_behind_shifted_text_is_rewritten(form: str, charset: str, text: str) -> None:
    body = f'{form.format(charset)}<p>{text} <a href="{TARGET}">{text}</a>'.encode(charset)
    done = _there_and_back(message(body, "text/html"))
    assert TARGET.encode() not in done
    assert GATEWAY.encode() in done


def test_a_link_that_only_shows_where_the_markups_charset_is_believed_is_rewritten() -> None:
    # Read as ASCII the shifted bytes open a comment, or an attribute, that swallows the link.
    hidden = b'\x1b$B<!--\x1b(B<a href="http://evil.example/a">x</a>\x1b$B-->\x1b(B'
    done = _there_and_back(message(META.format("iso-2022-jp").encode() + hidden, "text/html"))
    assert TARGET.encode() not in done


def test_a_link_that_only_shows_where_it_is_not_believed_is_rewritten() -> None:
    hidden = b'\x1b$B<a href="http://evil.example/a">x</a>\x1b(B'
    done = _there_and_back(message(META.format("iso-2022-jp").encode() + hidden, "text/html"))
    assert TARGET.encode() not in done


def test_a_shift_that_vanishes_within_a_tag_hides_no_link_in_either_reading() -> None:
    body = META.format("iso-2022-jp") + f'<a hr\x1b(Bef="{TARGET}">x</a><a href="http://evil.example/b">y</a>'
    done = _there_and_back(message(body, "text/html"))
    assert b"evil.example" not in done


def test_utf_7_in_the_markup_hides_no_link_in_either_reading() -> None:
    body = (
        META.format("utf-7") + '+ADw-a href="http://evil.example/a"+AD4-x+ADw-/a+AD4- <a href="http://two.example/+-">'
    )
    done = _there_and_back(message(body, "text/html"))
    assert b"evil.example" not in done
    assert b"two.example" not in done


def test_a_label_in_the_header_counts_and_an_unknown_one_does_not() -> None:
    hidden = b'\x1b$B<!--\x1b(B<a href="http://evil.example/a">x</a>\x1b$B-->\x1b(B'
    body = META.format("iso-2022-jp").encode() + hidden
    assert TARGET.encode() in _there_and_back(message(body, "text/html; charset=utf-8"))
    assert TARGET.encode() not in _there_and_back(message(body, "text/html; charset=x-nonsense"))


def test_a_charset_named_in_a_comment_is_none() -> None:
    body = b"<!-- " + META.format("utf-7").encode() + b' --><a href="http://evil.example/+AGE-">x</a>'
    gateway = GatewayDouble()
    done = transform(message(body, "text/html"), gateway.plan())
    assert [link.link.url for link in done.links] == ["http://evil.example/+AGE-"]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("label", ["text/html", "text/html; charset=us-ascii", "text/html; charset=iso-8859-1"])
def test_utf_16_under_another_label_is_read(codec: str, label: str) -> None:
    body = f'<p>x <a href="{TARGET}">x</a>'.encode(codec)
    done = _there_and_back(message(body, label))
    assert body not in done
    assert GATEWAY.encode(codec) in done


def test_zero_bytes_between_letters_do_not_turn_markup_into_utf_16() -> None:
    body = b'<a href="http://evil.example/a">x</a>' + b"\0a" * 300
    assert TARGET.encode() not in _there_and_back(message(body, "text/html"))


def test_the_charset_of_each_part_is_its_own() -> None:
    one = part(META.format("iso-2022-jp").encode() + b'\x1b$B<!--\x1b(B<a href="http://evil.example/a">', "text/html")
    two = part(b'<a href="http://evil.example/a">', "text/html; charset=utf-8")
    assert TARGET.encode() not in _there_and_back(multipart(one, two, kind="mixed"))
