"""Messages that must not be changed come out as they came, and what stands in them is reported."""

from __future__ import annotations

import base64

import pytest

from app.messages import LinkAction, SkipReason, inspect, inspect_body, transform, transform_body
from tests.unit.messages.gateway_double import GatewayDouble, message, multipart, part

ODD = '<a href="http://203.0.113.9/login">https://bank.example/</a>'
PLAIN = "see http://one.example/ and http://two.example/"
ARMOUR = (
    "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nhttp://signed.example/\r\n"
    "-----BEGIN PGP SIGNATURE-----\r\n\r\niQEz\r\n-----END PGP SIGNATURE-----\r\nhttp://footer.example/\r\n"
)


def signed() -> bytes:
    return multipart(
        part(ODD, "text/html"), part("MIAG", "application/pkcs7-signature", "base64"), kind='signed; micalg="sha-256"'
    )


def _says(raw: bytes) -> str:
    done = transform(raw, GatewayDouble().plan())
    assert done.content == raw
    assert not done.changed
    assert {found.action for found in done.links} <= {LinkAction.LEAVE}
    assert [found.gateway_url for found in done.links] == [None] * len(done.links)
    (warning,) = [warning for warning in done.warnings if warning.code == "links_left"]
    return warning.message


def test_links_of_a_signed_message_are_counted_and_judged() -> None:
    said = _says(signed())
    assert said.startswith("One link was left as it is, because the message is signed")
    assert "1 of them looks suspicious: ip_host, text_mismatch." in said


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (message(PLAIN, "text/plain", headers="X-Gm-Locker: x\n"), SkipReason.CONFIDENTIAL_MODE),
        (message(PLAIN, "text/plain", headers="Content-Class: rpmsg.message\n"), SkipReason.RIGHTS_MANAGED),
        (message(PLAIN + "\r\n" + ARMOUR.split("http://signed")[0], "text/plain"), SkipReason.PGP_INLINE),
        (multipart(part(PLAIN, "text/plain"), kind="encrypted"), SkipReason.ENCRYPTED),
        (
            multipart(part(PLAIN, "text/plain"), part("METHOD:REQUEST\r\n", "text/calendar; method=REQUEST")),
            SkipReason.MEETING,
        ),
        (
            multipart(
                part(PLAIN, "text/plain"),
                part("Final-Recipient: rfc822; a@b.example\r\n", "message/delivery-status"),
                kind="report",
            ),
            SkipReason.REPORT,
        ),
    ],
)
def test_every_reason_is_said_with_the_number_of_links(raw: bytes, reason: SkipReason) -> None:
    assert transform(raw, GatewayDouble().plan()).skipped is reason
    assert _says(raw).startswith("2 links were left as they are, because ")


def test_an_inline_armour_keeps_the_links_inside_and_outside_it_and_says_so() -> None:
    raw = message(ARMOUR, "text/plain")
    said = _says(raw)
    assert said == (
        "2 links were left as they are, because the text is signed or encrypted with PGP, and any change would make "
        "it invalid."
    )
    urls = [found.link.url for found in transform(raw, GatewayDouble().plan()).links]
    assert urls == ["http://signed.example/", "http://footer.example/"]


def test_a_part_with_an_armour_is_left_and_counted_while_the_html_beside_it_is_rewritten() -> None:
    raw = multipart(part(ARMOUR, "text/plain"), part(ODD, "text/html"))
    done = transform(raw, GatewayDouble().plan())
    assert ARMOUR.encode() in done.content
    assert b"203.0.113.9" not in done.content.partition(b"text/html")[2]
    assert [(w.code, w.part) for w in done.warnings] == [("pgp_inline", "1"), ("links_left", "1")]


def test_a_signed_message_attached_in_base64_is_reported_too() -> None:
    body = base64.encodebytes(signed()).replace(b"\n", b"\r\n")
    raw = multipart(part("hello", "text/plain"), part(body, "message/rfc822", "base64"), kind="mixed")
    done = transform(raw, GatewayDouble().plan())
    assert done.content == raw
    assert [found.link.url for found in done.links] == ["http://203.0.113.9/login"]
    assert "links_left" in [warning.code for warning in done.warnings]


def test_a_dangerous_link_is_not_said_to_have_been_made_harmless() -> None:
    raw = signed().replace(ODD.encode(), b'<a href="javascript:alert(1)">x</a>')
    done = transform(raw, GatewayDouble().plan())
    assert done.content == raw
    (finding,) = done.links[0].link.findings
    assert finding.message.endswith("it was left.")
    assert "dangerous_scheme" in _says(raw)


def test_a_message_without_links_says_nothing_of_links() -> None:
    raw = signed().replace(ODD.encode(), b"<p>hello</p>")
    done = transform(raw, GatewayDouble().plan())
    assert (done.links, done.warnings) == ((), ())


def test_what_a_provider_says_of_a_message_leads_to_the_same_report() -> None:
    plan = GatewayDouble().plan()
    raw = message(PLAIN, "text/plain")
    done = inspect(raw, plan, "signed")
    assert done.content == raw
    assert done.warnings[-1].message.startswith("2 links were left as they are, because the message is signed")
    body = inspect_body(PLAIN, False, plan, "approval")
    assert body.warnings[-1].message == "2 links were left as they are, because the message must not be changed."
    assert (body.content, body.changed) == (PLAIN, False)
    assert [found.link.url for found in inspect_body(ODD, True, plan, "meeting").links] == ["http://203.0.113.9/login"]


def test_a_body_with_an_inline_armour_is_reported() -> None:
    done = transform_body(ARMOUR, False, GatewayDouble().plan())
    assert done.skipped is SkipReason.PGP_INLINE
    assert len(done.links) == 2
    assert [warning.code for warning in done.warnings] == ["links_left"]
