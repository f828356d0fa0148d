"""How a tenant wants links treated, at both providers: headers that only the connector sees, and changes half way."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.messages.options import DeliveryOptions
from app.protection import protect as protect_module
from app.protection.models import MessageLink
from app.protection.plan import change_options
from app.protection.service import request_restore
from app.protection.tasks import restore_mailbox
from connectors.base.types import Provider, ReplaceStep
from tests.integration.protection.test_crash_between_steps import Killed, killed_at
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


async def _want(organisation: Organisation, **values: Any) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_options(session, organisation.actor, DeliveryOptions.parse(values))


async def test_a_link_to_unsubscribe_with_is_neither_redacted_nor_left_unmarked(organisation: Organisation) -> None:
    address = organisation.people[0]
    await _want(organisation, other="redact", suspicious="redact")
    raw = mail(address, link="https://news.example/leave?u=1").replace(
        b"MIME-Version",
        b"List-Unsubscribe: <mailto:leave@news.example>,\r\n <https://news.example/leave?u=1>\r\nMIME-Version",
        1,
    )
    organisation.deliver(address, raw)
    organisation.deliver(address, mail(address, link="https://other.example/"))
    await organisation.sync()
    texts = organisation.readable(address)
    assert sum("https://news.example/leave" in text for text in texts) == 1
    assert sum("https://other.example/" in text for text in texts) == 0
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        links = list(await session.scalars(select(MessageLink).order_by(MessageLink.message_id, MessageLink.ordinal)))
    marked = {link.host for link in links for finding in link.findings if finding["code"] == "list_unsubscribe"}
    assert marked == {"news.example"}


LEAVE = "https://news.example/leave?u=1"
CHANGES = [
    ({"other": "redact"}, {}),
    ({}, {"other": "style", "tag": "Protected"}),
    ({}, {"leave_unsubscribe": True}),
]


def _steps(organisation: Organisation) -> list[tuple[ReplaceStep, bool]]:
    in_place = organisation.provider is Provider.MICROSOFT
    steps = [step for step in ReplaceStep if not in_place or step is not ReplaceStep.REMOVED]
    return [(step, journaled) for step in steps for journaled in (False, True)]


@pytest.mark.parametrize(("first", "second"), CHANGES)
async def test_options_that_change_half_way_lose_nothing_and_double_nothing(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch, first: dict[str, Any], second: dict[str, Any]
) -> None:
    address, mailbox = organisation.people[0], await organisation.mailbox_id(organisation.people[0])
    for number, (step, journaled) in enumerate(_steps(organisation)):
        raw = mail(address, f"{step} {journaled}", link=LEAVE, n=number)
        if "leave_unsubscribe" in second:
            raw = raw.replace(b"MIME-Version", b"List-Unsubscribe: <" + LEAVE.encode() + b">\r\nMIME-Version", 1)
        before = organisation.readable(address)
        organisation.deliver(address, raw)
        (delivered,) = [text for text in organisation.readable(address) if text not in before]
        await _want(organisation, **first)
        with monkeypatch.context() as patch:
            patch.setattr(protect_module, "StepRecorder", killed_at(step, journaled=journaled))
            with pytest.raises(Killed):
                await organisation.sync()
        await organisation.restart()
        await _want(organisation, **second)
        await organisation.sync()
        row = (await organisation.messages())[-1]
        assert (row.state, row.reason) in {("protected", ""), ("protected", "normalised")}
        (text,) = [text for text in organisation.readable(address) if text not in before]
        if "leave_unsubscribe" not in second:
            assert LEAVE not in text
        async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
            run = await request_restore(session, organisation.actor, "mailbox", str(mailbox))
        await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)
        await organisation.sync()
        assert [text for text in organisation.readable(address) if text not in before] == [delivered]


async def test_what_an_earlier_try_wrote_is_kept_though_the_options_changed(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address))
    await _want(organisation, other="redact", redact_text="[gone]")
    with monkeypatch.context() as patch:
        patch.setattr(protect_module, "StepRecorder", killed_at(ReplaceStep.WRITTEN, journaled=True))
        with pytest.raises(Killed):
            await organisation.sync()
    await organisation.restart()
    await _want(organisation)
    await organisation.sync()
    (text,) = organisation.readable(address)
    assert "[gone]" in text or 'href="#"' in text
    assert GATEWAY not in text
