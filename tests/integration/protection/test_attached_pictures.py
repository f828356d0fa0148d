"""QR codes and links in attachments, which Microsoft keeps apart from the body: found, judged, left, and said so."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from email.message import EmailMessage

import pytest
from sqlalchemy import select

from app.kit.clock import utc_now
from app.protection import attached
from app.protection.models import MessageLink
from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from tests.integration.protection.world import GATEWAY, Organisation
from tests.unit.messages.qr_pictures import file, picture

pytestmark = pytest.mark.anyio

TRAP = "https://trap.example/login"
CODE = file(picture(TRAP))


def letter(to: str, *, inline: bool = True, pictures: int = 1, html_file: str = "") -> bytes:
    """A letter with pictures of a code, shown in its text or only attached."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", to, "Your parcel"
    made["Message-ID"] = "<parcel@sender.example>"
    shown = "".join(f'<img src="cid:qr{n}@x">' for n in range(pictures)) if inline else ""
    made.set_content(f'<p>Scan {shown} or <a href="https://news.example/a">read</a></p>', subtype="html")
    for n in range(pictures):
        if inline:
            made.add_related(CODE, "image", "png", cid=f"<qr{n}@x>", filename=f"qr{n}.png")
        else:
            made.add_attachment(CODE, "image", "png", filename=f"qr{n}.png")
    if html_file:
        made.add_attachment(html_file, subtype="html", filename="invoice.html")
    return made.as_bytes()


async def links(organisation: Organisation) -> list[tuple[str, str, str, str]]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        rows = await session.scalars(select(MessageLink).order_by(MessageLink.ordinal))
        return [(row.url, row.kind, row.part, row.action) for row in rows]


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "attached"])
async def test_a_code_in_a_picture_is_found_and_the_picture_stays_as_it_is(
    organisation: Organisation, inline: bool
) -> None:
    if organisation.provider is not Provider.MICROSOFT:
        pytest.skip("a Gmail message is fetched whole")
    ada = organisation.people[0]
    await organisation.sync()
    organisation.deliver(ada, letter(ada, inline=inline))
    await organisation.sync()

    (row,) = await organisation.messages()
    assert row.state == "protected"
    assert GATEWAY in organisation.readable(ada)[0]
    assert (TRAP, "qr", "attachment 1", "leave") in await links(organisation)
    assert "attachment_links_left" in {warning["code"] for warning in row.warnings}
    state = organisation.emulators.world.microsoft
    (stored,) = state.messages_of(state.person(ada).id)
    assert [each.content for each in stored.attachments] == [CODE]


async def test_a_message_with_nothing_but_a_code_is_left_and_its_link_is_known(organisation: Organisation) -> None:
    if organisation.provider is not Provider.MICROSOFT:
        pytest.skip("a Gmail message is fetched whole")
    ada = organisation.people[0]
    await organisation.sync()
    organisation.deliver(
        ada, letter(ada, html_file=f'<a href="{TRAP}">pay</a>').replace(b"https://news.example/a", b"#")
    )
    await organisation.sync()
    (row,) = await organisation.messages()
    assert (row.state, row.reason) == ("skipped", "no_links")
    assert [(url, part) for url, _, part, _ in await links(organisation) if url == TRAP] == [
        (TRAP, "attachment 1"),
        (TRAP, "attachment 2"),
    ]


async def test_what_is_too_much_to_read_is_counted(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    if organisation.provider is not Provider.MICROSOFT:
        pytest.skip("a Gmail message is fetched whole")
    monkeypatch.setattr(attached, "MOST_FILES", 1)
    ada = organisation.people[0]
    await organisation.sync()
    organisation.deliver(ada, letter(ada, pictures=3))
    await organisation.sync()
    (row,) = await organisation.messages()
    texts = {warning["code"]: warning["message"] for warning in row.warnings}
    assert texts["attachment_not_read"].startswith("2 attachments were not looked into")
    assert [part for url, _, part, _ in await links(organisation) if url == TRAP] == ["attachment 1"]


async def test_an_attachment_that_cannot_be_read_now_puts_the_message_off_and_nothing_is_doubled(
    organisation: Organisation,
) -> None:
    if organisation.provider is not Provider.MICROSOFT:
        pytest.skip("a Gmail message is fetched whole")
    ada = organisation.people[0]
    await organisation.sync()
    rule = FaultRule(FaultKind.UNAVAILABLE, r"/attachments/", "GET", limit=None)
    organisation.emulators.world.faults.add(rule)
    organisation.deliver(ada, letter(ada))
    await organisation.sync()
    assert (await organisation.messages())[0].state == "seen"
    organisation.emulators.world.faults.clear()
    await organisation.restart()  # which forgets for how long Graph asked for quiet
    later = utc_now() + timedelta(minutes=10)
    organisation.runtime = dataclasses.replace(organisation.runtime, clock=lambda: later)
    await organisation.sync()
    (row,) = await organisation.messages()
    assert row.state == "protected"
    assert [url for url, _, _, _ in await links(organisation)].count(TRAP) == 1
