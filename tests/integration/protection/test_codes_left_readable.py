"""Codes that no policy can change, in PDF, Office files and SVG in the text: at both providers reported, and said."""

from __future__ import annotations

from email.message import EmailMessage

import pytest
from sqlalchemy import select

from app.messages.options import DeliveryOptions
from app.protection.models import MessageLink
from app.protection.plan import change_options
from connectors.base.types import Provider
from tests.integration.protection.world import Organisation
from tests.unit.messages.qr_pictures import TEXT, file, picture
from tests.unit.messages.test_qr_documents import WORD, package
from tests.unit.messages.test_qr_drawn import DRAWINGS
from tests.unit.messages.test_qr_pdf import CODE, TEXT_PAGE, document

pytestmark = pytest.mark.anyio

PDF = document((TEXT_PAGE, b""), (CODE, b""))
DOCX = package(WORD)
SVG = DRAWINGS["by zxing-cpp"].partition("?>")[2] or DRAWINGS["by zxing-cpp"]


def letter(to: str) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", to, "Documents"
    made["Message-ID"] = "<documents@sender.example>"
    drawing = SVG[SVG.index("<svg") :]
    made.set_content(f'<p>Scan {drawing} or <a href="https://news.example/a">read</a></p>', subtype="html")
    made.add_attachment(PDF, "application", "pdf", filename="offer.pdf")
    word = "vnd.openxmlformats-officedocument.wordprocessingml.document"
    made.add_attachment(DOCX, "application", word, filename="offer.docx")
    made.add_attachment(b"PK\x03\x04" + b"Rar!\x1a\x07", "application", "vnd.rar", filename="more.rar")
    return made.as_bytes()


@pytest.mark.parametrize("policy", ["report", "deface", "replace"])
async def test_codes_that_cannot_be_changed_are_reported_with_their_place(
    organisation: Organisation, policy: str
) -> None:
    ada = organisation.people[0]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_options(session, organisation.actor, DeliveryOptions.parse({"qr": policy}))
    await organisation.sync()
    organisation.deliver(ada, letter(ada))
    await organisation.sync()

    (row,) = await organisation.messages()
    assert row.state == "protected"
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        found = list(await session.scalars(select(MessageLink).where(MessageLink.kind == "qr")))
    apart = organisation.provider is Provider.MICROSOFT
    places = {"1", "attachment 1", "attachment 2"} if apart else {"1", "2", "3"}
    assert {(link.url, link.action) for link in found} == {(TEXT, "leave")}
    assert {link.part for link in found} == places
    said = " ".join(warning["message"] for warning in row.warnings)
    if policy != "report":
        assert "(PDF document, page 2)" in said
        assert "(Office document, word/media/image2.jpeg)" in said
        assert "drawn with SVG in the markup" in said
    if apart:
        assert "offer.pdf, offer.docx" in said
        state = organisation.emulators.world.microsoft
        (stored,) = state.messages_of(state.person(ada).id)
        assert [each.content for each in stored.attachments][:2] == [PDF, DOCX]


async def test_codes_in_pictures_of_a_message_that_must_not_be_changed_are_reported(organisation: Organisation) -> None:
    ada, world = organisation.people[0], organisation.emulators.world
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", ada, "Special"
    made["Message-ID"] = "<special@sender.example>"
    made.set_content("<p>Scan</p>", subtype="html")
    made.add_attachment(file(picture()), "image", "png", filename="qr.png")
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_options(session, organisation.actor, DeliveryOptions.parse({"qr": "deface"}))
    await organisation.sync()
    if organisation.provider is Provider.MICROSOFT:
        world.microsoft.deliver(ada, made.as_bytes(), message_class="IPM.Note.Custom")
    else:
        organisation.deliver(ada, b"X-Gm-Locker: 1\r\n" + made.as_bytes())
    before = organisation.view(ada)
    await organisation.sync()

    (row,) = await organisation.messages()
    assert row.state == "skipped"
    assert row.reason in ("unknown_class", "confidential_mode")
    assert organisation.view(ada) == before
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        (link,) = await session.scalars(select(MessageLink))
    assert (link.url, link.kind, link.action) == (TEXT, "qr", "leave")
