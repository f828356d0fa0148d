"""QR codes in pictures that Microsoft keeps apart from the body: repainted by policy, given back byte for byte."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.kit.clock import utc_now
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.messages.options import DeliveryOptions
from app.protection import attached, swapping
from app.protection import protect as protect_module
from app.protection.holding import JobTakenOver
from app.protection.models import MessageEvent, MessageLink, MessageRow
from app.protection.onboarding import known_checks, sufficient
from app.protection.plan import change_options
from app.protection.swapping import SwapRecorder
from app.protection.tasks import probe, purge, restore_mailbox
from app.tenants.models import Tenant
from connectors.base.types import AttachmentStep, Provider, ReplaceStep
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.microsoft.model import Attachment
from connectors.emulators.testing import Emulators
from tests.integration.protection.test_crash_between_steps import Killed as BodyKilled
from tests.integration.protection.test_crash_between_steps import killed_at as body_killed_at
from tests.integration.protection.test_restore import ask, result
from tests.integration.protection.world import (
    GATEWAY,
    Organisation,
    choose_copies_for,
    connect,
    mail,
    provider_settings,
)
from tests.unit.messages.qr_pictures import file, on_canvas, picture, read_by_zxing

pytestmark = pytest.mark.anyio

TRAP, SECOND = "https://trap.example/login", "https://other.example/pay"
CODE = file(picture(TRAP, scale=8))
INVOICE = b"%PDF-1.7 an invoice without a link"
Attributes = tuple[str, str, str | None, bool, bytes]
STEPS = [AttachmentStep.ADDED, AttachmentStep.VERIFIED, AttachmentStep.REMOVED]
MOMENTS = [(step, number, journaled) for number in (0, 1) for step in STEPS for journaled in (False, True)]


@pytest.fixture
async def nordwind(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    settings = provider_settings(emulators, tmp_path)
    made = await connect(database, emulators, Provider.MICROSOFT, settings, keyring, "ada")
    yield made
    await made.runtime.providers.aclose()


def letter(to: str, *pictures: bytes, inline: bool = True, link: str = "https://news.example/a") -> bytes:
    """A letter with pictures, shown in its text or only attached, and with an invoice."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", to, "Your parcel"
    made["Message-ID"] = "<parcel@sender.example>"
    shown = "".join(f'<img src="cid:qr{n}@x">' for n in range(len(pictures))) if inline else ""
    made.set_content(f'<p>Scan {shown} or <a href="{link}">read</a></p>', subtype="html")
    for n, content in enumerate(pictures):
        if inline:
            made.add_related(content, "image", "png", cid=f"<qr{n}@x>", filename=f"qr{n}.png")
        else:
            made.add_attachment(content, "image", "png", filename=f"qr{n}.png")
    made.add_attachment(INVOICE, "application", "pdf", filename="invoice.pdf")
    return made.as_bytes()


async def want(organisation: Organisation, **values: Any) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_options(session, organisation.actor, DeliveryOptions.parse(values))


def stored(organisation: Organisation) -> list[Attachment]:
    state = organisation.emulators.world.microsoft
    person = state.person(organisation.people[0]).id
    bin_id = state.folder(person, "deleteditems").id
    (message,) = [each for each in state.messages_of(person) if each.folder_id != bin_id]
    return list(message.attachments)


def attributes(organisation: Organisation) -> list[Attributes]:
    """What is attached, in no order."""
    found = [(a.name, a.content_type, a.content_id, a.is_inline, a.content) for a in stored(organisation)]
    return sorted(found, key=lambda each: each[0])


def pictures(organisation: Organisation) -> list[bytes]:
    return [each[4] for each in attributes(organisation) if each[1] == "image/png"]


def identities(found: list[Attributes]) -> list[tuple[str, str, str | None, bool]]:
    return [each[:4] for each in found]


async def links(organisation: Organisation) -> list[tuple[str, str, str]]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        rows = await session.scalars(select(MessageLink).order_by(MessageLink.ordinal))
        return [(row.url, row.part, row.action) for row in rows]


async def trace(organisation: Organisation) -> Counter[str]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return Counter(await session.scalars(select(MessageEvent.kind)))


async def evidence(organisation: Organisation) -> str:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        tenant = await session.get(Tenant, organisation.tenant_id)
        assert tenant is not None
        return str(tenant.settings.get("attachments", {}).get("status", ""))


async def only(organisation: Organisation) -> MessageRow:
    (row,) = await organisation.messages()
    return row


def codes(row: MessageRow) -> set[str]:
    return {warning["code"] for warning in row.warnings}


async def protect(organisation: Organisation, raw: bytes) -> list[Attributes]:
    """Deliver a letter and have it protected; what was attached before."""
    await organisation.sync()
    organisation.deliver(organisation.people[0], raw)
    before = attributes(organisation)
    await organisation.sync()
    return before


async def restore(organisation: Organisation) -> None:
    run = await ask(organisation, "tenant", "")
    mailbox = await organisation.mailbox_id(organisation.people[0])
    await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)
    assert (await result(organisation, run)).state == "done"


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "attached"])
async def test_a_code_is_replaced_by_one_for_the_gateway_and_restoring_gives_back_the_very_file(
    nordwind: Organisation, inline: bool
) -> None:
    await want(nordwind, qr="replace")
    before = await protect(nordwind, letter(nordwind.people[0], CODE, inline=inline))

    after = attributes(nordwind)
    assert identities(after) == identities(before)
    (new,) = pictures(nordwind)
    (target,) = read_by_zxing(new)
    assert target.startswith(f"{GATEWAY}/l/trap.example/")
    assert [each for each in after if each[1] == "application/pdf"] == [
        each for each in before if each[1] == "application/pdf"
    ]
    row = await only(nordwind)
    assert (row.state, row.links) == ("protected", 2)
    assert (TRAP, "attachment 1", "rewrite") in await links(nordwind)
    assert "attachment_links_left" not in codes(row)
    assert await evidence(nordwind) == "works"
    steps = await trace(nordwind)
    assert [steps[f"attachment_{step}"] for step in STEPS] == [1, 1, 1]

    text = nordwind.readable(nordwind.people[0])[0]
    assert GATEWAY in text
    await restore(nordwind)

    assert attributes(nordwind) == before
    assert GATEWAY not in nordwind.readable(nordwind.people[0])[0]
    row = await only(nordwind)
    assert (row.state, row.undo_sealed) == ("restored", None)


async def test_every_code_of_a_picture_is_made_unreadable(nordwind: Organisation) -> None:
    both = file(on_canvas(900, 420, (picture(TRAP), 20, 20), (picture(SECOND), 500, 20)))
    assert sorted(read_by_zxing(both)) == sorted([TRAP, SECOND])
    await want(nordwind, qr="deface")
    before = await protect(nordwind, letter(nordwind.people[0], both))

    assert [read_by_zxing(each) for each in pictures(nordwind)] == [[]]
    assert {(url, action) for url, part, action in await links(nordwind) if part == "attachment 1"} == {
        (TRAP, "redact"),
        (SECOND, "redact"),
    }
    await restore(nordwind)
    assert attributes(nordwind) == before


async def test_a_message_with_nothing_but_a_code_is_protected_and_its_text_stays(nordwind: Organisation) -> None:
    await want(nordwind, qr="deface")
    raw = letter(nordwind.people[0], CODE, link="#top")
    before = await protect(nordwind, raw)
    text = nordwind.readable(nordwind.people[0])

    assert pictures(nordwind) != [CODE]
    assert (await only(nordwind)).state == "protected"
    await restore(nordwind)
    assert attributes(nordwind) == before
    assert nordwind.readable(nordwind.people[0]) == text


async def test_the_trace_tells_of_the_text_before_the_pictures_in_the_order_in_which_they_were_done(
    nordwind: Organisation,
) -> None:
    await want(nordwind, qr="deface")
    await protect(nordwind, letter(nordwind.people[0], CODE))
    await restore(nordwind)
    async with nordwind.runtime.db.tenant(nordwind.tenant_id) as session:
        kinds = list(await session.scalars(select(MessageEvent.kind).order_by(MessageEvent.id)))
    done = ["written", "verified", *(f"attachment_{step.value}" for step in STEPS)]
    assert kinds == ["seen", *done, "protected", *done, "restored"]


async def test_without_such_a_policy_the_picture_stays_and_the_code_is_said_to_be_readable(
    nordwind: Organisation,
) -> None:
    before = await protect(nordwind, letter(nordwind.people[0], CODE))

    assert attributes(nordwind) == before
    row = await only(nordwind)
    (said,) = [warning["message"] for warning in row.warnings if warning["code"] == "attachment_links_left"]
    assert "qr0.png" in said and "policy" in said
    assert (TRAP, "attachment 1", "leave") in await links(nordwind)


async def test_seen_again_nothing_is_done_twice(nordwind: Organisation) -> None:
    await want(nordwind, qr="replace")
    await protect(nordwind, letter(nordwind.people[0], CODE))
    after = attributes(nordwind)
    state = nordwind.emulators.world.microsoft
    person = state.person(nordwind.people[0]).id
    (message,) = state.messages_of(person)
    state.move(message, state.folder(person, "archive"))
    await nordwind.sync()

    assert attributes(nordwind) == after
    assert (await trace(nordwind))["attachment_added"] == 1


def killed_at(step: AttachmentStep, nth: int, *, journaled: bool, error: type[BaseException]) -> type[SwapRecorder]:
    """A recorder that dies at the nth time a step is reached, before or after it is in the journal."""

    class Dying(SwapRecorder):
        reached = 0

        async def __call__(self, number: int, reached: AttachmentStep) -> None:
            fatal = reached is step and Dying.reached == nth
            Dying.reached += reached is step
            if fatal and not journaled:
                raise error
            await super().__call__(number, reached)
            if fatal:
                raise error

    return Dying


class Killed(BaseException):
    """kill -9: nothing catches it."""


@pytest.mark.parametrize(
    ("link", "moment"),
    [*(("https://news.example/a", moment) for moment in MOMENTS), *(("#top", moment) for moment in MOMENTS[::2])],
    ids=str,
)
async def test_after_a_kill_at_any_step_each_attachment_is_there_once(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch, link: str, moment: tuple[AttachmentStep, int, bool]
) -> None:
    await want(nordwind, qr="replace")
    await nordwind.sync()
    two = (CODE, file(picture(SECOND, scale=8)))
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], *two, link=link))
    before = attributes(nordwind)
    step, number, journaled = moment
    with monkeypatch.context() as patch:
        patch.setattr(swapping, "SwapRecorder", killed_at(step, number, journaled=journaled, error=Killed))
        with pytest.raises(Killed):
            await nordwind.sync()
    assert INVOICE in [each.content for each in stored(nordwind)]
    await nordwind.restart()
    await nordwind.sync()

    assert identities(attributes(nordwind)) == identities(before)
    read = [read_by_zxing(each) for each in pictures(nordwind)]
    assert [texts[0].startswith(f"{GATEWAY}/l/") for texts in read if texts] == [True, True]
    row = await only(nordwind)
    assert (row.state, row.links) == ("protected", 2 + (link != "#top"))
    assert sorted(action for _, part, action in await links(nordwind) if part.startswith("att")) == ["rewrite"] * 2

    await restore(nordwind)
    assert attributes(nordwind) == before


@pytest.mark.parametrize("step", [ReplaceStep.WRITTEN, ReplaceStep.VERIFIED])
async def test_after_a_kill_between_the_body_and_the_first_picture_the_picture_is_changed(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch, step: ReplaceStep
) -> None:
    await want(nordwind, qr="deface")
    await nordwind.sync()
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    before, text = attributes(nordwind), nordwind.readable(nordwind.people[0])
    with monkeypatch.context() as patch:
        patch.setattr(protect_module, "StepRecorder", body_killed_at(step, journaled=True))
        with pytest.raises(BodyKilled):
            await nordwind.sync()
    assert pictures(nordwind) == [CODE]
    await nordwind.restart()
    await nordwind.sync()

    assert (await only(nordwind)).state == "protected"
    assert [read_by_zxing(each) for each in pictures(nordwind)] == [[]]
    assert (TRAP, "attachment 1", "redact") in await links(nordwind)
    await restore(nordwind)
    assert attributes(nordwind) == before
    assert nordwind.readable(nordwind.people[0]) == text


async def test_a_policy_that_changes_while_half_is_done_leaves_each_attachment_once_and_restorable(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step, policy in ((AttachmentStep.ADDED, "deface"), (AttachmentStep.REMOVED, "report")):
        await want(nordwind, qr="replace")
        await nordwind.sync()
        identifier = nordwind.deliver(
            nordwind.people[0], letter(nordwind.people[0], CODE, file(picture(SECOND, scale=8)))
        )
        before = attributes(nordwind)
        with monkeypatch.context() as patch:
            patch.setattr(swapping, "SwapRecorder", killed_at(step, 0, journaled=True, error=Killed))
            with pytest.raises(Killed):
                await nordwind.sync()
        await nordwind.restart()
        await want(nordwind, qr=policy)
        await nordwind.sync()

        assert identities(attributes(nordwind)) == identities(before)
        readable = [text for each in pictures(nordwind) for text in read_by_zxing(each)]
        assert readable[0].startswith(GATEWAY)
        assert readable[1:] == ([SECOND] if policy == "report" else [])
        actions = {url: action for url, _, action in (await links(nordwind))[-2:]}
        row = (await nordwind.messages())[-1]
        assert row.links == 2  # the body's and the first code's
        if policy == "report":
            assert actions[SECOND] == "leave"
            assert "attachment_links_left" in codes(row)
        await restore(nordwind)
        assert attributes(nordwind) == before
        state = nordwind.emulators.world.microsoft
        state.remove(state.message(state.person(nordwind.people[0]).id, identifier))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("journaled", [False, True], ids=["before-its-record", "after-its-record"])
async def test_restoring_goes_on_where_it_was(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch, step: AttachmentStep, journaled: bool
) -> None:
    await want(nordwind, qr="deface")
    before = await protect(nordwind, letter(nordwind.people[0], CODE, file(picture(SECOND, scale=8))))
    run = await ask(nordwind, "tenant", "")
    mailbox = await nordwind.mailbox_id(nordwind.people[0])
    with monkeypatch.context() as patch:
        patch.setattr(swapping, "SwapRecorder", killed_at(step, 0, journaled=journaled, error=Killed))
        with pytest.raises(Killed):
            await restore_mailbox(nordwind.runtime, nordwind.tenant_id, mailbox, run)
    await nordwind.restart()
    await nordwind.sync()  # a look at the mailbox comes first, as it may
    await restore_mailbox(nordwind.runtime, nordwind.tenant_id, mailbox, run)

    assert attributes(nordwind) == before
    assert (await only(nordwind)).state == "restored"


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.TIMEOUT_BEFORE, FaultKind.TIMEOUT_AFTER])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_fault_puts_the_message_off_and_nothing_is_doubled(
    nordwind: Organisation, kind: FaultKind, method: str
) -> None:
    await want(nordwind, qr="deface")
    await nordwind.sync()
    nordwind.emulators.world.faults.add(FaultRule(kind, r"/attachments", method, limit=1))
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    before = attributes(nordwind)
    await nordwind.sync()
    assert (await only(nordwind)).state == "writing"
    await nordwind.restart()  # which forgets for how long Graph asked for quiet
    later = utc_now() + timedelta(minutes=10)
    nordwind.runtime = dataclasses.replace(nordwind.runtime, clock=lambda: later)
    await nordwind.sync()

    assert (await only(nordwind)).state == "protected"
    assert identities(attributes(nordwind)) == identities(before)
    assert [read_by_zxing(each) for each in pictures(nordwind)] == [[]]
    await restore(nordwind)
    assert attributes(nordwind) == before


@pytest.mark.parametrize("link", ["https://news.example/a", "#top"], ids=["with-links", "code-alone"])
async def test_where_mail_takes_no_attachment_the_picture_stays_and_the_links_are_protected(
    nordwind: Organisation, link: str
) -> None:
    nordwind.emulators.world.microsoft.switches.attachments_to_received = False
    await want(nordwind, qr="replace")
    before = await protect(nordwind, letter(nordwind.people[0], CODE, link=link))

    assert attributes(nordwind) == before
    row = await only(nordwind)
    assert (row.state, row.reason) == (("protected", "") if link != "#top" else ("skipped", "no_links"))
    assert row.links == (link != "#top")
    assert (TRAP, "attachment 1", "leave") in await links(nordwind)
    (said,) = [warning for warning in row.warnings if warning["code"] == "attachment_not_changed"]
    assert "qr0.png" in said["message"] and "403" in said["message"]
    assert row.undo_sealed is None
    assert await evidence(nordwind) == "refused"

    # From the next one on it is known, and not even tried.
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    nordwind.emulators.world.faults.add(FaultRule(FaultKind.UNAVAILABLE, r"/attachments$", "POST"))
    await nordwind.sync()
    second = (await nordwind.messages())[1]
    assert second.state == "protected"
    (said,) = [warning for warning in second.warnings if warning["code"] == "attachment_links_left"]
    assert "stay as they are" in said["message"]


async def test_a_worker_whose_job_is_another_ones_by_now_stops(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await want(nordwind, qr="deface")
    await nordwind.sync()
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    before = attributes(nordwind)
    with monkeypatch.context() as patch:
        patch.setattr(swapping, "SwapRecorder", killed_at(AttachmentStep.ADDED, 0, journaled=False, error=JobTakenOver))
        with pytest.raises(JobTakenOver):
            await nordwind.sync()
    await nordwind.restart()
    await nordwind.sync()
    assert identities(attributes(nordwind)) == identities(before)
    assert [read_by_zxing(each) for each in pictures(nordwind)] == [[]]


async def test_a_picture_that_the_reader_removed_stays_away(nordwind: Organisation) -> None:
    await want(nordwind, qr="deface")
    await protect(nordwind, letter(nordwind.people[0], CODE))
    state = nordwind.emulators.world.microsoft
    (message,) = state.messages_of(state.person(nordwind.people[0]).id)
    state.remove_attachment(message, next(each for each in message.attachments if each.name == "qr0.png"))
    await restore(nordwind)
    assert [each.content for each in stored(nordwind)] == [INVOICE]
    assert (await only(nordwind)).state == "restored"


async def test_what_cannot_be_given_back_stays_protected_and_can_be_asked_for_again(nordwind: Organisation) -> None:
    await want(nordwind, qr="deface")
    before = await protect(nordwind, letter(nordwind.people[0], CODE))
    nordwind.emulators.world.microsoft.switches.attachments_to_received = False
    await restore(nordwind)
    row = await only(nordwind)
    assert row.state == "protected" and row.undo_sealed is not None
    nordwind.emulators.world.microsoft.switches.attachments_to_received = True
    await restore(nordwind)
    assert attributes(nordwind) == before


async def test_past_the_restore_period_the_original_picture_is_not_kept(nordwind: Organisation) -> None:
    await want(nordwind, qr="deface")
    await protect(nordwind, letter(nordwind.people[0], CODE))
    assert (await only(nordwind)).undo_sealed is not None
    later = utc_now() + timedelta(days=nordwind.runtime.settings.restore_days + 1)
    await purge(dataclasses.replace(nordwind.runtime, clock=lambda: later), nordwind.tenant_id)
    assert (await only(nordwind)).undo_sealed is None


def signed(to: str) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", to, "Signed"
    made.set_content('<p><img src="cid:qr0@x"> text</p>', subtype="html")
    made.add_related(CODE, "image", "png", cid="<qr0@x>", filename="qr0.png")
    made.add_attachment(b"signature", "application", "pkcs7-signature", filename="smime.p7s")
    return made.as_bytes()


def rights_managed(to: str) -> bytes:
    return (
        signed(to)
        .replace(b"smime.p7s", b"message.rpmsg")
        .replace(b"application/pkcs7-signature", b"application/x-microsoft-rpmsg-message")
    )


@pytest.mark.parametrize("make", [signed, rights_managed])
async def test_a_message_that_must_not_be_touched_keeps_its_pictures(
    nordwind: Organisation, make: Callable[[str], bytes]
) -> None:
    await want(nordwind, qr="deface")
    before = await protect(nordwind, make(nordwind.people[0]))
    assert attributes(nordwind) == before
    assert (await only(nordwind)).state == "skipped"


async def test_a_dry_run_changes_no_attachment(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> None:
    settings = provider_settings(emulators, tmp_path)
    made = await connect(database, emulators, Provider.MICROSOFT, settings, keyring, "ada", dry_run=True)
    try:
        await want(made, qr="deface")
        before = await protect(made, letter(made.people[0], CODE))
        assert attributes(made) == before
        assert (await only(made)).state == "dry_run"
    finally:
        await made.runtime.providers.aclose()


async def test_html_and_svg_files_are_rewritten_where_the_policy_says_so(nordwind: Organisation) -> None:
    page = f'<html><body><a href="{TRAP}">pay</a></body></html>'
    raw = EmailMessage()
    raw["From"], raw["To"], raw["Subject"] = "a@sender.example", nordwind.people[0], "Invoice"
    raw.set_content("<p>see the file</p>", subtype="html")
    raw.add_attachment(page, subtype="html", filename="invoice.html")
    await want(nordwind, rewrite_attachments=True)
    before = await protect(nordwind, raw.as_bytes())
    (after,) = stored(nordwind)
    assert f"{GATEWAY}/l/trap.example/".encode() in after.content
    assert TRAP.encode() not in after.content
    await restore(nordwind)
    assert attributes(nordwind) == before


async def test_other_messages_of_the_mailbox_go_on_while_pictures_are_swapped(nordwind: Organisation) -> None:
    await want(nordwind, qr="deface")
    await nordwind.sync()
    for number in range(3):
        nordwind.deliver(nordwind.people[0], mail(nordwind.people[0], f"Plain {number}"))
        nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    await nordwind.sync()
    assert Counter(row.state for row in await nordwind.messages()) == {"protected": 6}


async def shown_check(organisation: Organisation) -> tuple[str, str]:
    """The check about attachments as the pages show it, stored by a process that has tried nothing itself."""
    await organisation.restart()
    await probe(organisation.runtime, organisation.tenant_id)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        tenant = await session.get(Tenant, organisation.tenant_id)
        assert tenant is not None
        (found,) = [check for check in known_checks(tenant) if check.key == "attachments"]
        assert sufficient(known_checks(tenant))
        return found.status.value, found.summary


async def test_the_connector_page_tells_whether_pictures_can_be_changed(nordwind: Organisation) -> None:
    assert (await shown_check(nordwind))[0] == "skipped"  # the policy asks for no change
    await want(nordwind, qr="deface")
    assert (await shown_check(nordwind))[0] == "unknown"
    nordwind.emulators.world.microsoft.switches.attachments_to_received = False
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    await nordwind.sync()
    status, said = await shown_check(nordwind)
    assert status == "unknown" and said.startswith("Refused on 20") and "403" in said
    nordwind.emulators.world.microsoft.switches.attachments_to_received = True
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    await nordwind.sync()
    status, said = await shown_check(nordwind)
    assert status == "passed" and "changed on" in said


@pytest.mark.parametrize("moment", [None, *MOMENTS[::3]], ids=str)
async def test_where_messages_are_replaced_by_copies_the_copys_pictures_are_changed(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch, moment: tuple[AttachmentStep, int, bool] | None
) -> None:
    await choose_copies_for(nordwind)
    await want(nordwind, qr="deface")
    await nordwind.sync()
    two = (CODE, file(picture(SECOND, scale=8)))
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], *two))
    before = attributes(nordwind)
    if moment is not None:
        step, number, journaled = moment
        with monkeypatch.context() as patch:
            patch.setattr(swapping, "SwapRecorder", killed_at(step, number, journaled=journaled, error=Killed))
            with pytest.raises(Killed):
                await nordwind.sync()
        await nordwind.restart()
    await nordwind.sync()

    row = await only(nordwind)
    assert row.state == "protected" and row.current_id != row.external_id
    assert identities(attributes(nordwind)) == identities(before)
    assert [read_by_zxing(each) for each in pictures(nordwind)] == [[], []]
    await restore(nordwind)
    assert attributes(nordwind) == before
    assert GATEWAY not in nordwind.readable(nordwind.people[0])[0]


async def test_a_picture_that_would_become_too_large_is_left_and_named(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = file(picture(SECOND, scale=2))
    await want(nordwind, qr="deface")
    monkeypatch.setattr(attached, "MOST_BYTES_EACH", len(small))
    before = await protect(nordwind, letter(nordwind.people[0], small))
    row = await only(nordwind)
    (said,) = [warning for warning in row.warnings if warning["code"] == "attachment_not_changed"]
    assert "qr0.png: changed it would be too large" in said["message"]
    assert attributes(nordwind) == before
    assert (SECOND, "attachment 1", "leave") in await links(nordwind)


async def test_of_equal_files_none_is_changed_where_not_all_were_read(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = EmailMessage()
    raw["From"], raw["To"], raw["Subject"] = "a@sender.example", nordwind.people[0], "Twice"
    raw.set_content("<p>Scan</p>", subtype="html")
    for _ in range(2):
        raw.add_attachment(CODE, "image", "png", filename="qr.png")
    await want(nordwind, qr="deface")
    monkeypatch.setattr(attached, "MOST_FILES", 1)
    before = await protect(nordwind, raw.as_bytes())
    assert attributes(nordwind) == before
    assert codes(await only(nordwind)) >= {"attachment_not_read", "attachment_not_changed", "attachment_links_left"}

    monkeypatch.setattr(attached, "MOST_FILES", 20)
    state = nordwind.emulators.world.microsoft
    (message,) = state.messages_of(state.person(nordwind.people[0]).id)
    state.remove(message)
    nordwind.deliver(nordwind.people[0], raw.as_bytes())
    await nordwind.sync()
    assert [read_by_zxing(each) for each in pictures(nordwind)] == [[], []]
    await restore(nordwind)
    assert attributes(nordwind) == before


def _after(time: timedelta) -> datetime:
    return utc_now() + time


async def test_a_store_that_never_answers_to_adding_holds_back_no_mailbox(nordwind: Organisation) -> None:
    await want(nordwind, qr="deface")
    await nordwind.sync()
    nordwind.emulators.world.faults.add(FaultRule(FaultKind.TIMEOUT_BEFORE, r"/attachments$", "POST", limit=None))
    nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE))
    before = attributes(nordwind)
    for tries in range(6):
        later = timedelta(minutes=10 * tries)  # the pause after a failure is over
        nordwind.runtime = dataclasses.replace(nordwind.runtime, clock=partial(_after, later))
        await nordwind.sync()
    row = await only(nordwind)
    assert row.state == "protected"
    assert GATEWAY in nordwind.readable(nordwind.people[0])[0]
    assert attributes(nordwind) == before
    said = " ".join(warning["message"] for warning in row.warnings)
    assert "qr0.png" in said and "no answer" in said
    assert (TRAP, "attachment 1", "leave") in await links(nordwind)


@pytest.mark.parametrize("link", ["https://news.example/a", "#top"], ids=["with-links", "code-alone"])
async def test_what_stands_twice_and_cannot_go_is_said_and_given_back_later(nordwind: Organisation, link: str) -> None:
    switches = nordwind.emulators.world.microsoft.switches
    switches.attachments_from_received = False
    await want(nordwind, qr="deface")
    before = await protect(nordwind, letter(nordwind.people[0], CODE, link=link))
    row = await only(nordwind)
    assert row.state == "protected" and "attachment_doubtful" in codes(row)
    assert len(pictures(nordwind)) == 2
    switches.attachments_from_received = True
    await restore(nordwind)
    assert attributes(nordwind) == before


async def test_a_message_moved_to_the_bin_while_half_is_done_is_finished_all_the_same(
    nordwind: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await want(nordwind, qr="deface")
    await nordwind.sync()
    identifier = nordwind.deliver(nordwind.people[0], letter(nordwind.people[0], CODE, link="#top"))
    before = attributes(nordwind)
    with monkeypatch.context() as patch:
        patch.setattr(swapping, "SwapRecorder", killed_at(AttachmentStep.VERIFIED, 0, journaled=True, error=Killed))
        with pytest.raises(Killed):
            await nordwind.sync()
    state = nordwind.emulators.world.microsoft
    person = state.person(nordwind.people[0]).id
    state.move(state.message(person, identifier), state.folder(person, "junkemail"))
    await nordwind.restart()
    await nordwind.sync()
    assert identities(attributes(nordwind)) == identities(before)
    assert (await only(nordwind)).state == "protected"
    await restore(nordwind)
    assert attributes(nordwind) == before
