"""Messages made to get a link past the transformer, to damage it, or to come back otherwise than they went in."""

from __future__ import annotations

import base64

import pytest

from app.messages import restore, restore_body, transform, transform_body
from app.messages.types import BodyResult, FoundLink, OpenedLink, TransformPlan, TransformResult
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message, multipart, part

EVIL = "http://evil.example/a"
LINK = f'<p>Hello</p><a href="{EVIL}">x</a>'


def rewritten(raw: bytes) -> TransformResult:
    """Transform a message and hold it against what must be true of every one."""
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    back = restore(done.content, gateway.open, done.undo)
    assert back.content == raw
    assert back.failed == ()
    assert transform(done.content, gateway.plan()).content == done.content
    return done


def targets(done: TransformResult) -> list[str]:
    """Where the links lead that were replaced, in order."""
    return [found.link.url for found in done.links if found.gateway_url]


@pytest.mark.parametrize("filler", range(6))
def test_base64_with_a_list_footer_behind_it_comes_back_without_added_spaces(filler: int) -> None:
    encoded = base64.b64encode((LINK + "y" * filler).encode())
    done = rewritten(message(encoded + b"\r\n-- list footer", encoding="base64"))
    assert targets(done) == [EVIL]


@pytest.mark.parametrize("charset", ["utf-16le", "utf-16be", "utf-32le"])
@pytest.mark.parametrize("tail", [b"", b"\r\n-- list footer"])
def test_half_a_character_at_the_end_does_not_let_a_part_escape(charset: str, tail: bytes) -> None:
    for filler in range(3):
        data = (LINK + "y" * filler).encode(charset) + b"\0"
        done = rewritten(message(base64.b64encode(data) + tail, f"text/html; charset={charset}", "base64"))
        assert targets(done) == [EVIL]


def rewritten_body(html: str) -> BodyResult:
    """The same for a body that Graph gives."""
    gateway = GatewayDouble()
    done = transform_body(html, True, gateway.plan())
    assert restore_body(done.content, True, gateway.open, done.undo).content == html
    assert transform_body(done.content, True, gateway.plan()).content == done.content
    return done


@pytest.mark.parametrize(
    "html",
    [
        "<p>&lthttp://evil.example/a",
        "<p>&#60http://evil.example/a",
        "<p>http:/\0/evil.example/a",
        "<p>h\0ttp://evil.\0example/a",
        "<p>http://</>evil.example/a",
        "<svg><a/></svg>http://evil.example/a",
        "<svg><style/></svg>http://evil.example/a",
        "<!--[if mso]><style>--><p>http://evil.example/a",
        "<svg></svg><![CDATA[ >http://evil.example/a",
        "<!--[if mso]><a href=#>-->http://evil.example/a",
        "<p>http://evil.example/a" + "".join(map(chr, [*range(1, 9), *range(14, 32), 127])),
    ],
)
def test_a_bare_address_does_not_hide_from_the_search_in_text(html: str) -> None:
    done = rewritten_body(html)
    assert [found.link.url for found in done.links] == [EVIL]
    assert f'<a href="{GATEWAY}' in done.content


@pytest.mark.parametrize(
    "html",
    [
        "<plaintext>http://evil.example/a",
        "<svg><text><![CDATA[ http://evil.example/a ]]></text></svg>",
        "<math><mtext><![CDATA[http://evil.example/a",
        "<template>http://evil.example/a<col></template>",
    ],
)
def test_no_tag_is_put_where_it_would_be_read_as_text_or_move_an_element(html: str) -> None:
    assert rewritten_body(html).content == html


@pytest.mark.parametrize(
    "html",
    [
        "<!--[if mso" + " " * 500 + "]><a href=http://evil.example/a>x</a><![endif]-->",
        "<!--[if mso]><a href=http://evil.example/a>x</a>-",
        "<!--[if mso]><a href=http://evil.example/a>x</a>!-",
        "<!--><!--[if mso]><a href=http://evil.example/a>x</a>",
        "<!-- old <!--[if mso]><a href=http://evil.example/a>x</a><![endif]-->",
        "<!--[if mso]><set href=http://evil.example/a>x<![endif]-->",
        "<!--[if mso]><embed href=http://evil.example/a>x<![endif]-->",
    ],
)
def test_a_conditional_comment_does_not_hide_a_link(html: str) -> None:
    assert [found.link.url for found in rewritten_body(html).links if found.gateway_url] == [EVIL]


def test_a_name_is_found_however_its_www_is_written() -> None:
    assert [found.link.url for found in rewritten_body("<p>wWw.evil.example").links] == ["http://wWw.evil.example"]


def test_a_header_without_an_empty_line_does_not_keep_a_message_from_being_rewritten() -> None:
    head = b"From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n"
    done = rewritten(head + b"<a/href=//evil.example/a>x</a>\r\n")
    assert targets(done) == ["https://evil.example/a"]
    assert done.content.startswith(head + b"\r\n<a/href=")


@pytest.mark.parametrize(
    "encoding", ["quoted-printable (really)", '"quoted-printable"', "(x) Quoted-Printable", "quoted-printable;"]
)
def test_a_decorated_encoding_is_read_as_clients_read_it(encoding: str) -> None:
    assert targets(rewritten(message('<a href=3D"http://evil.=\r\nexample/a">x</a>', encoding=encoding))) == [EVIL]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@pytest.mark.parametrize("kind", ["message/rfc822", "message/global", "message/news"])
def test_an_attached_message_does_not_hide_behind_an_encoding(kind: str, encoding: str) -> None:
    inner = message(LINK)
    body = base64.encodebytes(inner) if encoding == "base64" else inner.replace(b"=", b"=3D")
    done = rewritten(multipart(part(body, kind, encoding), kind="mixed"))
    assert targets(done) == [EVIL]
    assert [found.link.part for found in done.links] == ["1.1"]


def test_messages_encoded_within_messages_without_end_are_taken() -> None:
    inner = message(LINK)
    for _ in range(40):
        inner = message(inner.replace(b"=", b"=3D"), "message/rfc822", "quoted-printable")
    assert "not_covered" in {warning.code for warning in rewritten(inner).warnings}


def test_an_unusual_kind_of_message_is_entered() -> None:
    assert targets(rewritten(message(message(LINK), "message/news", "7bit"))) == [EVIL]


def test_text_that_claims_to_be_base64_is_rewritten_as_the_text_it_is() -> None:
    sealed: dict[str, FoundLink] = {}

    def mint(link: FoundLink) -> str:
        url = f"{GATEWAY}/l/site.example/{len(sealed):08d}"
        sealed[url] = link
        return url

    def open_link(url: str) -> OpenedLink | None:
        link = sealed.get(url)
        return OpenedLink(link.url, link.source, same_message=True) if link else None

    plan = TransformPlan(GATEWAY, mint, open_link=open_link)
    for filler in range(4):
        body = "Hello\r\nSee " + "y" * filler + " http://evil.example/a for <b>more</b>\r\n"
        for raw in (message(body, "text/plain", "base64"), message(LINK + "y" * filler, "text/html", "base64")):
            done = transform(raw, plan)
            assert targets(done) == [EVIL]
            assert restore(done.content, open_link, done.undo).content == raw
            assert not transform(done.content, plan).changed


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_an_attached_message_that_only_claims_an_encoding_is_rewritten_as_it_stands(encoding: str) -> None:
    done = rewritten(multipart(part(message(LINK), "message/rfc822", encoding), kind="mixed"))
    assert targets(done) == [EVIL]
    assert b'<a href="https://gw.example/' in done.content


def test_an_amp_part_without_an_empty_line_does_not_keep_a_message_from_being_rewritten() -> None:
    amp = b"Content-Type: text/x-amp-html\r\n"
    done = rewritten(multipart(amp, part(LINK, "text/html")))
    assert targets(done) == [EVIL]
    assert b"amp-html" not in done.content


def test_of_two_multiparts_with_one_boundary_the_outer_one_counts() -> None:
    inner = b'Content-Type: multipart/mixed; boundary="b1"\r\n\r\n'
    middle = b'Content-Type: multipart/mixed; boundary="b2"\r\n\r\n--b2\r\n' + inner
    done = rewritten(multipart(middle + b"--b1\r\n" + part(LINK, "text/html")))
    assert [found.link.part for found in done.links] == ["2"]


def test_utf_7_that_is_cut_off_is_rewritten() -> None:
    body = b"+ADw-a href=+ACI-http://evil.example/a+ACI-+AD4-x+ADw-/a+AD4- +A"
    assert targets(rewritten(message(body, "text/html; charset=utf-7", "7bit"))) == [EVIL]


ARMOUR = "-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nhttp://evil.example/a\r\n"


def test_a_pgp_armour_beside_an_html_part_does_not_keep_it_from_being_rewritten() -> None:
    done = rewritten(multipart(part(ARMOUR, "text/plain"), part(LINK, "text/html")))
    assert targets(done) == [EVIL]
    assert ARMOUR.encode() in done.content
    assert targets(rewritten(message(ARMOUR + LINK))) == [EVIL, EVIL]


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_clear_signed_text_is_left_in_any_encoding(encoding: str) -> None:
    body = base64.encodebytes(ARMOUR.encode()) if encoding == "base64" else ARMOUR.encode()
    assert not rewritten(message(body, "text/plain", encoding)).changed


@pytest.mark.parametrize("charset", ["utf-16", "utf-16le", "utf-16be", "unicode"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_wide_charset_hides_no_link_behind_other_scripts(charset: str, mark: str) -> None:
    codec = {"utf-16": "utf-16-be", "unicode": "utf-16-le"}.get(charset, charset)
    data = (mark + "\u65e5" * 300 + LINK).encode(codec)
    assert targets(rewritten(message(base64.encodebytes(data), f"text/html; charset={charset}", "base64"))) == [EVIL]


def test_a_byte_order_mark_that_is_none_hides_no_link() -> None:
    assert targets(rewritten(message(b"\xff\xfe\0" + LINK.encode()))) == [EVIL]


@pytest.mark.parametrize(
    ("charset", "before"),
    [
        ("iso-2022-jp", b"\x0e"),
        ("iso-2022-jp", b"\x1b$(D"),
        ("iso-2022-jp", b"\x1b$B"),
        ("iso-2022-jp", b"\x1b(I"),
        ("iso-2022-jp", b"\x1b$B<K\\\x1b(B"),
        ("iso-2022-jp", b"\x1b$B<!--\x1b(B"),
        ("iso-2022-jp", b"\x1b(B\x1b$B<!--.\x1b(B"),
        ("iso-2022-kr", b"\x0e"),
        ("iso-2022-kr", b"\x1b$)C\x0e"),
        ("hz-gb-2312", b"~{"),
    ],
)
def test_a_shift_that_not_every_reader_follows_hides_no_link(charset: str, before: bytes) -> None:
    for link in (LINK, "<a/href=//evil.example/a>x</a>"):
        done = rewritten(message(before + link.encode(), f"text/html; charset={charset}", "7bit"))
        assert [url.replace("https:", "http:") for url in targets(done)] == [EVIL]


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("iso-2022-jp", "\u65e5\u672c\u8a9e\u2460"),
        ("iso-2022-kr", "\ud55c\uad6d\uc5b4"),
        ("hz", "\u4e2d\u6587"),
    ],
)
def test_text_of_a_shifted_charset_is_read_around_its_links(charset: str, text: str) -> None:
    codec = "iso2022_jp_3" if charset == "iso-2022-jp" else charset
    for html in (f"<p>{text}{LINK}{text}</p>", f"{text} http://evil.example/a {text}"):
        data = html.encode(codec).replace(b"\x1b$(O", b"\x1b$B").replace(b"\x1b$(Q", b"\x1b$B")
        done = rewritten(message(data, f"text/html; charset={charset}", "7bit"))
        assert targets(done) == [EVIL]


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "euc-jp", "big5"])
def test_bytes_that_cannot_be_decoded_are_not_parted_from_one_another(charset: str) -> None:
    done = rewritten(message(b"http://evil.example/\xe3\x81\xa0\x80 x", f"text/html; charset={charset}"))
    assert b"\xe3\x81\xa0\x80</a> x" in done.content


@pytest.mark.parametrize(("charset", "character"), [("shift_jis", "\u30a2"), ("gbk", "\u4e02"), ("big5", "\u4e00")])
def test_an_address_right_behind_a_character_that_ends_in_a_letter_is_found(charset: str, character: str) -> None:
    for kind in ("text/html", "text/plain"):
        body = (character + "http://evil.example/a " + character).encode(charset)
        assert targets(rewritten(message(body, f"{kind}; charset={charset}"))) == [EVIL]
    assert targets(rewritten(message(b"\x8fehttp://evil.example/a", "text/html; charset=gbk"))) == [EVIL]
    assert targets(rewritten(message(b"\x841\x953http://evil.example/a", "text/html; charset=gb18030"))) == [EVIL]


@pytest.mark.parametrize(
    ("charset", "data"),
    [
        ("iso-2022-jp", b"<\x1b(Ba href=http://evil.example/a>x</a>"),
        ("iso-2022-jp", b"<a\x1b(J href=http://evil.example/a>x</a>"),
        ("iso-2022-jp", b"<\x1b$B\x1b(Ba href=http://evil.example/a>x</a>"),
        ("iso-2022-jp", b"http:\x1b(B//evil.example/a"),
        ("iso-2022-kr", b"\x1b$)C<\x0fa href=http://evil.example/a>x</a>"),
        ("hz", b"<~\na href=http://evil.example/a>x</a>"),
        ("hz", b"<~{~}a href=http://evil.example/a>x</a>"),
    ],
)
def test_shifts_that_vanish_in_reading_hide_no_link(charset: str, data: bytes) -> None:
    done = rewritten(message(data, f"text/html; charset={charset}", "7bit"))
    assert targets(done) == [EVIL]


TRACE = b"Received: from a.example\r\n\tby b.example; now\r\n"
OURS = b"X-Postern: v1 0123\r\n"


@pytest.mark.parametrize("body", [LINK, '<a href="javascript:x">x</a>', "nothing"])
@pytest.mark.parametrize("front", [b"", OURS, TRACE + OURS, OURS + TRACE])
def test_a_marker_that_came_with_the_message_stays_and_ours_goes(front: bytes, body: str) -> None:
    raw = TRACE + b"X-Postern: of the sender\r\n" + message(body)
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    if not done.changed:
        front = b""  # such a message is never put back by us
    back = restore(front + done.content, gateway.open, done.undo)
    assert back.content == front.replace(OURS, b"") + raw
    assert back.failed == ()


@pytest.mark.parametrize("charset", ["utf-8", "utf-16le"])
def test_base64_that_goes_on_behind_its_padding_hides_no_link(charset: str) -> None:
    first, second = (base64.b64encode(text.encode(charset)) for text in ("<p>Hello", LINK + "!"))
    assert first.endswith(b"=")
    done = rewritten(message(first + b"\r\n" + second, f"text/html; charset={charset}", "base64"))
    assert targets(done) == [EVIL]


def test_advertising_sent_as_a_report_that_reports_nothing_is_rewritten() -> None:
    raw = multipart(part(LINK, "text/html"), kind="report")
    assert targets(rewritten(raw)) == [EVIL]
    status = part("Reporting-MTA: dns; mx.example", "message/delivery-status")
    assert rewritten(multipart(part(LINK, "text/html"), status, kind="report")).skipped is not None


def test_the_signature_of_an_attached_file_does_not_keep_a_message_from_being_rewritten() -> None:
    raw = multipart(part(LINK, "text/html"), part("x", "application/pgp-signature"), kind="mixed")
    assert targets(rewritten(raw)) == [EVIL]
