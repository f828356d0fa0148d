"""What is not to be touched stays as it was, byte for byte, with the reason on record."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.protection.models import MailboxRow, MessageLink
from app.protection.service import pause, resume, switch_domain
from app.tenants.models import Domain
from connectors.base.types import Provider
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio

_HEAD = (
    "From: Sender <sender@other.example>\r\nTo: {to}\r\nSubject: Special\r\n"
    "Message-ID: <special@other.example>\r\nMIME-Version: 1.0\r\nContent-Type: {type}\r\n\r\n"
)
_LINK = "https://news.example/a"
_SIGNED = (
    'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b',
    f"--b\r\nContent-Type: text/plain\r\n\r\nRead {_LINK}\r\n"
    "--b\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n"
    'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\nMIIB\r\n--b--\r\n',
)
_ENCRYPTED = (
    'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b',
    "--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    "--b\r\nContent-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n--b--\r\n",
)
_MEETING = (
    "multipart/alternative; boundary=b",
    f"--b\r\nContent-Type: text/plain\r\n\r\nJoin {_LINK}\r\n"
    "--b\r\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\n"
    "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n--b--\r\n",
)
_RIGHTS_MANAGED = (
    "multipart/mixed; boundary=b",
    f"--b\r\nContent-Type: text/plain\r\n\r\nOpen {_LINK}\r\n"
    "--b\r\nContent-Type: application/x-microsoft-rpmsg-message; name=message.rpmsg\r\n"
    'Content-Disposition: attachment; filename="message.rpmsg"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n'
    "--b--\r\n",
)
SPECIAL = {
    "signed": _SIGNED,
    "encrypted": _ENCRYPTED,
    "meeting": _MEETING,
    "rights_managed": _RIGHTS_MANAGED,
}


def special(to: str, kind: str) -> bytes:
    content_type, body = SPECIAL[kind]
    return (_HEAD.format(to=to, type=content_type) + body).encode()


@pytest.mark.parametrize("kind", SPECIAL)
async def test_mail_of_a_special_kind_is_left_as_it_is_with_the_reason(organisation: Organisation, kind: str) -> None:
    address = organisation.people[0]
    organisation.deliver(address, special(address, kind))
    before = organisation.view(address)
    await organisation.sync()
    assert organisation.view(address) == before
    (row,) = await organisation.messages()
    assert (row.state, row.reason) == ("skipped", kind)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        links = list(await session.scalars(select(MessageLink)))
    if kind != "encrypted":  # there the link is not to be seen
        assert [(link.url, link.action) for link in links] == [(_LINK, "leave")]
        assert [warning["code"] for warning in row.warnings][-1] == "links_left"


@pytest.mark.parametrize(
    "places",
    [("drafts", "draft"), ("sentitems", "sent"), ("junkemail", "spam")],
    ids=["draft", "sent", "junk"],
)
async def test_drafts_sent_mail_and_junk_are_left_as_they_are(
    organisation: Organisation, places: tuple[str, str]
) -> None:
    address = organisation.people[0]
    place = places[organisation.provider is Provider.GOOGLE]
    organisation.emulators.world.deliver(organisation.provider.value, address, mail(address), place=place)
    before = organisation.view(address)
    await organisation.sync()
    assert organisation.view(address) == before
    assert [row.state for row in await organisation.messages() if row.state != "skipped"] == []


async def test_mail_without_links_is_left_as_it_is(organisation: Organisation) -> None:
    address = organisation.people[0]
    organisation.deliver(address, _HEAD.format(to=address, type="text/plain").encode() + b"Nothing to click.\r\n")
    before = organisation.view(address)
    await organisation.sync()
    assert organisation.view(address) == before
    (row,) = await organisation.messages()
    assert (row.state, row.reason) == ("skipped", "no_links")


async def test_a_dry_run_records_what_it_would_do_and_writes_nothing(organisation: Organisation) -> None:
    address = organisation.people[0]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        domain = await session.get(Domain, (organisation.tenant_id, organisation.domain))
        assert domain is not None
        domain.dry_run = True
    organisation.deliver(address, mail(address))
    before = organisation.view(address)
    await organisation.sync()
    assert organisation.view(address) == before
    (row,) = await organisation.messages()
    assert (row.state, row.links) == ("dry_run", 2 if organisation.provider is Provider.GOOGLE else 1)


async def test_a_mailbox_that_opted_out_is_not_even_read(organisation: Organisation) -> None:
    ada, ben = organisation.people
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        row = await session.get(MailboxRow, (organisation.tenant_id, await organisation.mailbox_id(ada)))
        assert row is not None
        row.opted_out = True
    for address in (ada, ben):
        organisation.deliver(address, mail(address))
    before = organisation.readable(ada)
    assert "opted out" in (await organisation.sync(ada)).stopped
    await organisation.sync(ben)
    assert organisation.readable(ada) == before
    assert [row.state for row in await organisation.messages()] == ["protected"]


async def test_a_domain_whose_protection_is_off_is_left_alone_and_unsubscribed(organisation: Organisation) -> None:
    address = organisation.people[0]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await switch_domain(
            session,
            organisation.actor,
            organisation.domain,
            protected=False,
            dry_run=False,
            since=organisation.runtime.clock(),
        )
    organisation.deliver(address, mail(address))
    before = organisation.readable(address)
    assert "off for this domain" in (await organisation.sync()).stopped
    assert organisation.readable(address) == before
    assert len(await organisation.waiting("mailbox.stop")) == len(organisation.people)


async def test_mail_that_came_while_the_tenant_was_paused_is_protected_after_it(organisation: Organisation) -> None:
    address = organisation.people[0]
    db = organisation.runtime.db
    await organisation.sync()
    async with db.tenant(organisation.tenant_id) as session:
        await pause(session, organisation.actor)
    organisation.deliver(address, mail(address))
    before = organisation.readable(address)
    assert (await organisation.sync()).stopped == "tenant is paused"
    assert organisation.readable(address) == before
    async with db.tenant(organisation.tenant_id) as session:
        await resume(session, organisation.actor)
    await organisation.sync()
    (text,) = organisation.readable(address)
    assert f"{GATEWAY}/l/news.example/" in text
