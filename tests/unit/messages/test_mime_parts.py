"""Links that hide in MIME: every part that is shown is rewritten, every other byte stays."""

from __future__ import annotations

import base64
import email
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages import LinkKind, classify, mime, restore, transform
from app.messages.mime_headers import END_OF_HEADER, header_end
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message, multipart, part

LINK = '<a href="http://evil.example/a">x</a>'
TEXT = "see http://evil.example/a now"
_URL = re.compile(re.escape(GATEWAY).encode() + rb"/l/[\w.\-/]*")


def _round_trip(raw: bytes, links: int, **options: object) -> bytes:
    """Transform, check that it comes back, that twice is once, and that Python's parser reads the same structure."""
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan(**options))
    assert sum(link.gateway_url is not None for link in done.links) == links
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, gateway.plan(**options)).content == done.content
    return done.content


def _shape(raw: bytes) -> list[str]:
    return [entity.get_content_type() for entity in email.message_from_bytes(raw).walk()]


@pytest.mark.parametrize("eol", [b"\r\n", b"\n"])
@pytest.mark.parametrize("kind", ["alternative", "related", "mixed"])
def test_text_and_html_parts_are_both_rewritten(kind: str, eol: bytes) -> None:
    raw = multipart(
        part(TEXT, "text/plain", eol=eol),
        part(LINK, "text/html", eol=eol),
        part(b"\x89PNG http://x", "image/png", eol=eol),
        kind=kind,
        eol=eol,
    )
    out = _round_trip(raw, 2)
    assert _shape(out) == _shape(raw)
    assert _URL.sub(b"http://evil.example/a", out) == raw


@pytest.mark.parametrize("width", [0, 20, 60, 72, 76, 1000])
@pytest.mark.parametrize("tail", [b"", b"\r\n", b"\r\n\r\n"])
def test_base64_keeps_line_width_and_line_ends(width: int, tail: bytes) -> None:
    flat = base64.b64encode((LINK * 9).encode())
    body = b"\r\n".join(flat[at : at + (width or len(flat))] for at in range(0, len(flat), width or len(flat))) + tail
    out = _round_trip(message(body, encoding="base64"), 9)
    lines = out.partition(b"\r\n\r\n")[2].rstrip(b"\r\n").split(b"\r\n")
    assert {len(line) for line in lines[:-1]} <= {width}


@pytest.mark.parametrize(
    "body",
    [
        base64.b64encode(LINK.encode()).rstrip(b"="),
        base64.encodebytes(LINK.encode()).replace(b"A", b" A", 3),
        b"!!" + base64.encodebytes(LINK.encode()),
        base64.encodebytes(LINK.encode()) + b"--\nA mailing list's footer http://list.example/\n",
        base64.encodebytes(LINK.encode()) + b"A",
    ],
)
def test_base64_laid_out_by_no_rule_comes_back_too(body: bytes) -> None:
    _round_trip(message(body, encoding="base64"), 1)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf-8", "utf-8"),
        ('"utf-8"', "utf-8"),
        ('"u"tf-8', "utf-8"),
        ("UTF8", "utf-8"),
        ("no-such-charset", "utf-8"),
        ("", "utf-8"),
        ("us-ascii", "utf-8"),
        ("iso-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
        ("koi8-r", "koi8-r"),
        ("shift_jis", "shift_jis"),
        ("iso-2022-jp", "iso-2022-jp"),
        ("gb18030", "gb18030"),
        ("big5", "big5"),
        ("euc-kr", "euc-kr"),
        ("hz-gb-2312", "hz"),
        ("utf-16", "utf-16"),
        ("utf-16be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("utf-7", "utf-7"),
        ("utf-16", "ascii"),
    ],
)
@pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
def test_links_are_found_in_any_charset_and_come_back(charset: str, codec: str, encoding: str) -> None:
    words = {
        "latin-1": "caf\u00e9",
        "cp1252": "caf\u00e9\u20ac",
        "koi8-r": "\u0434\u0430",
        "euc-kr": "\ud55c\uad6d",
        "ascii": "x",
    }
    word = words.get(codec, "\u65e5\u672c" if codec != "big5" else "\u4e2d\u6587")
    data = f"<p>{word}</p>{LINK}<p>{word} http://two.example/ {word}</p>".encode(codec)
    body = {"8bit": data, "base64": base64.encodebytes(data), "quoted-printable": _quoted(data)}[encoding]
    kind = "text/html" + (f"; charset={charset}" if charset else "")
    _round_trip(message(body, kind, encoding), 2)


def _quoted(data: bytes) -> bytes:
    import quopri

    return quopri.encodestring(data).replace(b"\n", b"\r\n")


def test_quoted_printable_is_changed_only_where_the_link_stood() -> None:
    body = b'<p style=3d"x">=E9=e9 odd=\r\n</p>=20\r\n<a hre=\r\nf=3D"'
    body += b'http://evil.=\r\nexample/=3Fa=3D1">x</a>=\r\n tail=09\r\n'
    raw = message(body, encoding="quoted-printable")
    out = _round_trip(raw, 1)
    new = out.partition(b"\r\n\r\n")[2]
    before, after = body.split(b"http://evil.=\r\nexample/=3Fa=3D1")
    assert new.startswith(before)
    assert new.endswith(after)


def test_an_attached_message_is_entered() -> None:
    inner = message(LINK, headers="X-Inner: http://header.example/\n")
    raw = multipart(part(TEXT, "text/plain"), part(inner, "message/rfc822", "7bit"), kind="mixed")
    out = _round_trip(raw, 2)
    assert b"X-Inner: http://header.example/" in out


def test_parts_of_a_digest_are_messages_without_saying_so() -> None:
    raw = multipart(b"\r\n" + message(TEXT, "text/plain"), b"\r\n" + message(LINK), kind="digest")
    _round_trip(raw, 2)


@pytest.mark.parametrize(
    "broken",
    [
        multipart(part(TEXT, "text/plain"), part(LINK, "text/html")).partition(b"--b1--")[0],
        multipart(part(TEXT, "text/plain"), part(LINK, "text/html")).replace(b"--b1--", b"--b1"),
        multipart(part(TEXT, "text/plain"), part(LINK, "text/html")) + b"--b1\r\n\r\nhttp://late.example/",
    ],
)
def test_a_missing_or_doubled_boundary_loses_nothing(broken: bytes) -> None:
    _round_trip(broken, 2)


@pytest.mark.parametrize(
    "declared", ["multipart/mixed", 'multipart/mixed; boundary=""', "multipart/mixed; boundary=zz"]
)
def test_a_multipart_without_its_boundary_is_left_alone_and_reported(declared: str) -> None:
    raw = message(b"--b1\r\n\r\nhttp://evil.example/\r\n--b1--\r\n", declared)
    done = transform(raw, GatewayDouble().plan())
    assert done.content == raw
    assert {warning.code for warning in done.warnings} & {"no_boundary", "boundary_not_found"}


def test_an_inner_part_ends_where_the_outer_boundary_says() -> None:
    inner = (
        b"Content-Type: multipart/alternative; boundary=b2\r\n\r\n--b2\r\nContent-Type: text/plain\r\n\r\n"
        + TEXT.encode()
    )
    raw = multipart(inner, part(LINK, "text/html"), kind="mixed")
    _round_trip(raw, 2)


@pytest.mark.parametrize(
    "boundary",
    ['"a b"', "a-b", '"a;b"', '"a\\"b"', "'x'", '"--"', "=_x", '"' + "x" * 70 + '"'],
)
def test_boundaries_are_read_as_written(boundary: str) -> None:
    name = re.sub(r"\\(.)", r"\1", boundary.strip('"')) if boundary.startswith('"') else boundary
    raw = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{name}\r\n\r\n{TEXT}\r\n--{name}--\r\n".encode()
    _round_trip(raw, 1)


def test_a_boundary_in_pieces_is_put_together() -> None:
    raw = (
        b"Content-Type: multipart/mixed;\r\n boundary*0=ab;\r\n boundary*1*=%63d\r\n\r\n--abcd\r\n\r\n" + TEXT.encode()
    )
    structure = mime.parse(raw)
    assert structure.root.boundary == b"abcd"
    _round_trip(raw, 1)


def test_bare_carriage_returns_end_lines() -> None:
    raw = multipart(part(TEXT, "text/plain"), part(LINK, "text/html")).replace(b"\r\n", b"\r")
    out = _round_trip(raw, 2)
    assert _shape(out) == _shape(raw)


@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"Subject: b"]), max_size=8), st.integers(0, 3))
def test_an_empty_line_is_the_first_of_either_kind(pieces: list[bytes], at: int) -> None:
    raw = b"".join(pieces)
    start = min(at, len(raw))
    expected = END_OF_HEADER.search(raw, start)
    found = header_end(raw, start, len(raw), bare_cr=False, has_cr=b"\r" in raw)
    assert found == (expected.span() if expected else None)


@pytest.mark.parametrize(
    "head", [b"Content-Type: text/plain", b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html"]
)
def test_a_body_that_begins_with_another_kind_of_line_end_follows_its_header(head: bytes) -> None:
    gateway = GatewayDouble()
    raw = head + b"\n\n\r\nhttp://evil.example/\r\n"
    done = transform(raw, gateway.plan())
    assert "no_separator" not in [warning.code for warning in done.warnings]
    assert GATEWAY.encode() in done.content
    assert restore(done.content, gateway.open, done.undo).content == raw


def test_headers_that_are_folded_eight_bit_or_repeated_stay() -> None:
    raw = message(LINK, headers="X-Long: a\n\tb http://x.example/\nX-\xc4: \xff\xfe\nContent-Type: text/plain\n")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert restore(done.content, gateway.open).content == raw


def test_a_line_of_two_thousand_octets_is_rewritten() -> None:
    _round_trip(message("y" * 1500 + " " + TEXT + "z" * 1500, "text/plain"), 1)


def test_the_encoding_that_nobody_knows_is_taken_for_none() -> None:
    _round_trip(message(LINK, encoding="hexa"), 1)


def test_uuencoded_text_is_left_and_reported() -> None:
    raw = message("begin 644 a\n" + "M" * 61 + "\nend\n", "text/plain", "x-uuencode")
    done = transform(raw, GatewayDouble().plan())
    assert not done.changed
    assert [warning.code for warning in done.warnings] == ["unknown_encoding"]


def test_the_amp_part_goes_when_the_message_is_rewritten() -> None:
    amp = part('<html amp4email><a href="http://evil.example/a">x</a>', "text/x-amp-html")
    raw = multipart(part(TEXT, "text/plain"), amp, part(LINK, "text/html"))
    out = _round_trip(raw, 2)
    assert _shape(out) == ["multipart/alternative", "text/plain", "text/html"]
    untouched = multipart(part("nothing", "text/plain"), amp, part("<p>nothing", "text/html"))
    assert not transform(untouched, GatewayDouble().plan()).changed


def test_calendar_parts_stay_identical_and_their_links_are_reported() -> None:
    calendar = "BEGIN:VCALENDAR\r\nMETHOD:PUBLISH\r\nDESCRIPTION:Join http://evil.ex\r\n ample/join\\nnow\r\n"
    calendar += 'X-ALT-DESC;FMTTYPE=text/html:<a href="http://alt.example/x">x</a>\r\nEND:VCALENDAR\r\n'
    raw = multipart(part(LINK, "text/html"), part(calendar, "text/calendar; method=PUBLISH"), kind="mixed")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert calendar.encode() in done.content
    urls = [link.link.url for link in done.links if link.link.kind is LinkKind.CALENDAR]
    assert urls == ["http://evil.example/join", "http://alt.example/x"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("application/ms-tnef", "winmail.dat"),
        ("text/enriched", "a"),
        ("application/rtf", "a.rtf"),
        ("application/octet-stream", "winmail.dat"),
        ("application/zip", "a.zip"),
    ],
)
def test_what_is_not_looked_at_is_said(kind: str, name: str) -> None:
    extra = f'Content-Disposition: attachment; filename="{name}"\n'
    raw = multipart(part(LINK, "text/html"), part("PK\x03\x04 http://evil.example/x", kind, extra=extra), kind="mixed")
    done = transform(raw, GatewayDouble().plan())
    assert ("not_covered", "2") in [(warning.code, warning.part) for warning in done.warnings]
    assert len(done.links) >= 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [("image/svg+xml", "a.svg"), ("application/octet-stream", "a.html"), ("application/xhtml+xml", "a.xhtml")],
)
def test_markup_attachments_are_rewritten_only_where_the_policy_says_so(kind: str, name: str) -> None:
    extra = f'Content-Disposition: attachment; filename="{name}"\n'
    attached = part(
        '<svg xmlns="http://www.w3.org/2000/svg"><a href="http://evil.example/a">x</a></svg>', kind, extra=extra
    )
    raw = multipart(part(LINK, "text/html"), attached, kind="mixed")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert attached in done.content
    assert [link.link.kind for link in done.links] == [LinkKind.ANCHOR, LinkKind.ATTACHMENT]
    _round_trip(raw, 2, rewrite_attachments=True)


def test_an_attached_text_file_is_reported_but_not_changed() -> None:
    attached = part(TEXT, "text/plain", extra="Content-Disposition: attachment; filename=a.txt\n")
    raw = multipart(part(LINK, "text/html"), attached, kind="mixed")
    done = transform(raw, GatewayDouble().plan())
    assert attached in done.content
    assert [link.gateway_url is None for link in done.links] == [False, True]


def test_an_attached_html_file_is_rewritten_unless_told_otherwise() -> None:
    attached = part(LINK, "text/html", extra="Content-Disposition: attachment; filename=a.html\n")
    raw = multipart(part("hello", "text/plain"), attached, kind="mixed")
    _round_trip(raw, 1)
    assert not transform(raw, GatewayDouble().plan(html_attachments=False)).changed


SIGNED = part(TEXT, "text/plain")
PROTECTED: dict[str, tuple[str, bytes]] = {
    "signed, S/MIME": ("signed", multipart(SIGNED, part("x", "application/pkcs7-signature"), kind="signed")),
    "signed, PGP": ("signed", multipart(SIGNED, part("x", "application/pgp-signature"), kind="signed")),
    "signed within": (
        "signed",
        multipart(
            multipart(SIGNED, part("x", "application/pgp-signature"), kind="signed", boundary="b2"),
            part(TEXT, "text/plain"),
            kind="mixed",
        ),
    ),
    "opaque signature": ("signed", message("x", "application/pkcs7-mime; smime-type=signed-data", "base64")),
    "encrypted, S/MIME": ("encrypted", message("x", "application/pkcs7-mime; smime-type=enveloped-data", "base64")),
    "encrypted, old type": ("encrypted", message("x", "application/x-pkcs7-mime", "base64")),
    "encrypted, PGP": (
        "encrypted",
        multipart(part("x", "application/pgp-encrypted"), part(TEXT, "text/plain"), kind="encrypted"),
    ),
    "inline PGP": ("pgp_inline", message(f"-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\n{TEXT}\r\n", "text/plain")),
    "inline PGP, encrypted": ("pgp_inline", message(f"{TEXT}\r\n-----BEGIN PGP MESSAGE-----\r\nx\r\n", "text/plain")),
    "rights": (
        "rights_managed",
        multipart(
            part(LINK, "text/html"),
            part(
                "x",
                "application/x-microsoft-rpmsg-message",
                extra="Content-Disposition: attachment; filename=message.rpmsg\n",
            ),
            kind="mixed",
        ),
    ),
    "rights by class": ("rights_managed", message(LINK, headers="Content-Class: rpmsg.message\n")),
    "confidential": ("confidential_mode", message(LINK, headers="X-Gm-Locker: abc\n")),
    "meeting": (
        "meeting",
        multipart(part(LINK, "text/html"), part("BEGIN:VCALENDAR\r\n", "text/calendar; method=REQUEST")),
    ),
    "meeting by body": (
        "meeting",
        multipart(part(LINK, "text/html"), part("BEGIN:VCALENDAR\r\nMETHOD:CANCEL\r\n", "text/calendar")),
    ),
    "meeting by class": ("meeting", message(LINK, headers="Content-Class: urn:content-classes:calendarmessage\n")),
    "delivery report": (
        "report",
        multipart(
            part(TEXT, "text/plain"), part("x", "message/delivery-status"), kind="report; report-type=delivery-status"
        ),
    ),
    "empty": ("empty", b""),
}


@pytest.mark.parametrize("name", PROTECTED)
def test_what_must_not_be_touched_comes_out_identical_and_says_why(name: str) -> None:
    reason, raw = PROTECTED[name]
    done = transform(raw, GatewayDouble().plan())
    assert done.content == raw
    assert not done.changed
    assert done.skipped == reason
    assert classify(raw) == reason


def test_nothing_to_rewrite_is_the_very_input() -> None:
    raw = message("<p>Hello <img src='http://images.example/a.png'></p>")
    done = transform(raw, GatewayDouble().plan())
    assert done.content is raw
    assert done.skipped is None


def test_five_thousand_nested_parts_are_read_without_recursion() -> None:
    raw = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(5_000))
    raw += b"Content-Type: text/plain\r\n\r\n" + TEXT.encode()
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert len(done.links) == 1
    assert restore(done.content, gateway.open).content == raw


def test_a_hundred_thousand_attributes_are_read_once() -> None:
    html = "<a " + "".join(f"x{i}=y " for i in range(100_000)) + 'href="http://evil.example/a">x</a>'
    _round_trip(message(html), 1)
