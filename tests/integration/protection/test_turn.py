"""A link that turns out to be bad after delivery: who received it, who clicked it, and what is done (L13, L18, L26)."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from app.audit.models import AuditEntry
from app.gateway.models import Click
from app.kit.errors import Conflict, Forbidden, NotFound, Refused
from app.policy.service import PolicyService, notify_policy
from app.protection import incidents, queue, turn
from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage
from app.protection.incidents import (
    TurnPolicy,
    change_turn_policy,
    close_incident,
    mark_false_positive,
    mark_malicious,
    request_quarantine,
    request_release_all,
)
from app.protection.models import MessageEvent, MessageMove
from app.protection.turn import run_turn
from app.protection.turn_listen import heard, listen_for_turns
from app.tenants.actor import Actor, ActorKind, Role
from app.verdicts.sources.service import CHANNEL as FEEDS
from app.verdicts.turned import notify_turned
from tests.integration.protection.jobs import TASKS, finish_job, give_back, next_job, work_off
from tests.integration.protection.world import Organisation, mail

pytestmark = pytest.mark.anyio

BAD = "https://parcel.evil.example/track?id=7"


class Killed(BaseException):
    """The process ends here; nothing in the code under test may catch it."""


def feed_of(organisation: Organisation) -> Path:
    path = organisation.runtime.settings.feed_file
    assert path is not None
    return path


@pytest.fixture
async def settled(organisation: Organisation, tmp_path: Path) -> Organisation:
    """Two people with a bad link each, one of them with a harmless one besides; the lists know nothing yet."""
    settings = organisation.runtime.settings.model_copy(update={"feed_file": tmp_path / "lists.tsv"})
    (tmp_path / "lists.tsv").write_text("# nothing yet\n")
    object.__setattr__(organisation.runtime, "settings", settings)
    for address in organisation.people:
        organisation.deliver(address, mail(address, "Parcel", BAD))
        organisation.deliver(address, mail(address, "News"))
        await organisation.sync(address)
    await work_off(organisation.runtime)
    assert await found(organisation) == []
    return organisation


async def found(organisation: Organisation) -> list[Incident]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(Incident).order_by(Incident.id)))


async def copies(organisation: Organisation) -> list[IncidentMessage]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(IncidentMessage).order_by(IncidentMessage.message_id)))


async def happened(organisation: Organisation) -> list[str]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(IncidentEvent.kind).order_by(IncidentEvent.id)))


async def moves(organisation: Organisation) -> list[str]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(MessageMove.state).order_by(MessageMove.id)))


async def automatic(organisation: Organisation) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_turn_policy(session, organisation.actor, TurnPolicy(quarantine=True))


async def say(organisation: Organisation) -> None:
    """A list of the installation changed; work until nothing is left to do."""
    await heard(organisation.runtime, "")
    await work_off(organisation.runtime)


async def turn_bad(organisation: Organisation, entry: str = "evil.example") -> None:
    with feed_of(organisation).open("a") as file:
        file.write(f"malicious\t{entry}\n")
    # What was compared a moment ago is compared again.
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(text("UPDATE turn_states SET started_at = NULL"))
    await say(organisation)


async def click(organisation: Organisation, message: int | None, action: str, **more: Any) -> uuid.UUID:
    number = uuid.uuid4()
    values: dict[str, Any] = {"url": BAD, "host": "parcel.evil.example", "level": "unknown", "rule": "", **more}
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        session.add(
            Click(
                tenant_id=organisation.tenant_id,
                id=number,
                at=datetime.now(UTC),
                message_id=message,
                action=action,
                **values,
            )
        )
    return number


async def with_bad_link(organisation: Organisation) -> list[int]:
    return [row.id for row in await organisation.messages() if row.subject == "Parcel"]


async def test_a_listing_after_delivery_becomes_one_incident_with_everybody_who_received_the_link(
    settled: Organisation,
) -> None:
    await turn_bad(settled)
    (incident,) = await found(settled)
    assert (incident.kind, incident.subject, incident.state, incident.cause) == (
        "listed",
        "evil.example/",
        "open",
        "list",
    )
    assert incident.messages == 2
    assert incident.evidence[0]["code"] == "listed_malicious"
    assert [copy.message_id for copy in await copies(settled)] == await with_bad_link(settled)
    assert (await copies(settled))[0].urls == [BAD]
    assert await moves(settled) == [], "nothing is moved unless the policy says so"
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        said = list(await session.scalars(select(AuditEntry.action).where(AuditEntry.action.startswith("incident"))))
        traced = list(await session.scalars(select(MessageEvent.message_id).where(MessageEvent.kind == "incident")))
    assert said == ["incident.opened"]
    assert sorted(traced) == await with_bad_link(settled)


async def test_turning_twice_doubles_nothing(settled: Organisation) -> None:
    await automatic(settled)
    await turn_bad(settled)
    before = (await happened(settled), await moves(settled), len(await copies(settled)))
    await turn_bad(settled, "another.example")
    await say(settled)
    assert (await happened(settled), await moves(settled), len(await copies(settled))) == before
    assert len(await found(settled)) == 1


async def test_where_the_policy_says_so_every_copy_is_quarantined_and_released_as_asked(settled: Organisation) -> None:
    await automatic(settled)
    shown = [len(settled.readable(person)) for person in settled.people]
    await turn_bad(settled)
    assert await moves(settled) == ["moved", "moved"]
    (incident,) = await found(settled)
    assert incident.wanted == "quarantine"
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        reasons = list(await session.scalars(select(MessageMove.why)))
        await request_release_all(session, settled.actor, incident.id)
    assert reasons == [f"Incident {incident.id}: evil.example/"] * 2
    await work_off(settled.runtime)
    assert await moves(settled) == ["released", "released"]
    assert [len(settled.readable(person)) for person in settled.people] == shown
    (incident,) = await found(settled)
    assert incident.wanted == ""
    assert {copy.note for copy in await copies(settled)} == {"released"}
    assert await happened(settled) == ["opened", "quarantine", "quarantined", "release", "released"]


async def test_more_copies_than_a_person_would_expect_are_not_moved_without_one(
    settled: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "MOST_AUTOMATIC", 1)
    await automatic(settled)
    await turn_bad(settled)
    assert await moves(settled) == []
    assert await happened(settled) == ["opened", "too_many"]
    (incident,) = await found(settled)
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        await request_quarantine(session, settled.actor, incident.id)
    await work_off(settled.runtime)
    assert await moves(settled) == ["moved", "moved"]


async def test_a_copy_that_comes_later_joins_the_incident_and_is_moved_too(settled: Organisation) -> None:
    await automatic(settled)
    await turn_bad(settled)
    address = settled.people[0]
    settled.deliver(address, mail(address, "Reminder", BAD.replace("7", "8")))
    await settled.sync(address)
    await run_turn(settled.runtime, settled.tenant_id)
    await work_off(settled.runtime)
    assert await moves(settled) == ["moved"] * 3
    (incident,) = await found(settled)
    assert incident.messages == 3


async def test_copies_that_come_later_do_not_pass_the_bound_of_what_is_moved_by_itself(
    settled: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "MOST_AUTOMATIC", 2)
    await automatic(settled)
    await turn_bad(settled)
    assert await moves(settled) == ["moved"] * 2
    address = settled.people[0]
    settled.deliver(address, mail(address, "Reminder", BAD.replace("7", "8")))
    await settled.sync(address)
    await run_turn(settled.runtime, settled.tenant_id)
    await work_off(settled.runtime)
    assert await moves(settled) == ["moved"] * 2
    assert (await happened(settled))[-1] == "too_many"
    (incident,) = await found(settled)
    assert (incident.messages, incident.wanted) == (3, "")


async def test_the_audit_log_names_a_webhook_without_its_path(settled: Organisation) -> None:
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        for path in ("T0/B0/the-secret", "T0/B0/another-secret"):
            await change_turn_policy(session, settled.actor, TurnPolicy(webhook=f"https://u:pw@hooks.example/{path}"))
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        entries = list(await session.scalars(select(AuditEntry).where(AuditEntry.action == "turn.changed")))
    assert [entry.detail["webhook"]["after"] for entry in entries] == ["https://hooks.example/…"] * 2
    assert "secret" not in str([entry.detail for entry in entries])
    assert "pw" not in str([entry.detail for entry in entries])


async def test_a_stopped_click_becomes_an_incident_in_its_messages_trace(settled: Organisation) -> None:
    first, second = await with_bad_link(settled)
    evidence = [{"code": "login_page", "weight": 60, "fields": {}, "source": "", "text": "It asks for a password"}]
    await click(settled, first, "redirect")
    stopped = await click(settled, first, "block", level="malicious", rule="verdict:malicious", evidence=evidence)
    await say(settled)
    (incident,) = await found(settled)
    assert (incident.kind, incident.subject, incident.cause) == ("checked", "parcel.evil.example/track?id=7", "click")
    assert [copy.message_id for copy in await copies(settled)] == [first, second], "the other one received it too"
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        clicks = {row.id: row.incident_id for row in await session.scalars(select(Click))}
        traced = list(await session.scalars(select(MessageEvent.message_id).where(MessageEvent.kind == "incident")))
    assert clicks.pop(stopped) == incident.id
    assert set(clicks.values()) == {None}
    assert sorted(traced) == [first, second]


@pytest.mark.parametrize(
    ("url", "end", "moved"),
    [
        ("https://bad.example/login", "bad.example", True),
        ("https://news.example/r?u=1", "news.example", False),
        ("https://news.example/r/1", "bad.example", False),
    ],
)
async def test_a_bad_page_behind_a_redirector_moves_no_mail_by_itself(
    settled: Organisation, url: str, end: str, moved: bool
) -> None:
    person = next(iter(settled.people))
    for link in (url, url + "2", "https://news.example/r?u=3"):
        settled.deliver(person, mail(person, link.rpartition("/")[2], link))
    await settled.sync(person)
    await work_off(settled.runtime)
    await automatic(settled)
    await click(settled, None, "block", url=url, host=end, level="malicious", rule="verdict:malicious")
    await say(settled)
    (incident,) = await found(settled)
    assert incident.kind == "checked"
    assert [copy.urls for copy in await copies(settled)] == [[url]], "no other address of the same site"
    assert await moves(settled) == (["moved"] if moved else [])
    # A person may still move them, and take it back.
    if not moved:
        async with settled.runtime.db.tenant(settled.tenant_id) as session:
            await request_quarantine(session, settled.actor, incident.id)
        await work_off(settled.runtime)
        assert await moves(settled) == ["moved"]
    await mark_false_positive(settled.runtime.db, settled.actor, incident.id, datetime.now(UTC))
    await work_off(settled.runtime)
    assert await moves(settled) == ["released"]


async def test_a_stopped_click_on_what_is_no_web_address_is_nobodys_incident(settled: Organisation) -> None:
    (first, _) = await with_bad_link(settled)
    number = await click(settled, first, "block", url="javascript:alert(1)", host="", rule="no-web-address")
    await say(settled)
    assert await found(settled) == []
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        assert (await session.get_one(Click, (settled.tenant_id, number))).incident_id == 0


async def test_a_block_entry_of_the_tenant_finds_its_copies_but_moves_none_by_itself(settled: Organisation) -> None:
    await automatic(settled)
    await PolicyService(settled.runtime.db).add(settled.actor, action="block", pattern="*.evil.example")
    await say(settled)
    (incident,) = await found(settled)
    assert (incident.kind, incident.subject, incident.messages, incident.alerts) == ("rule", "*.evil.example", 2, 0)
    assert await moves(settled) == []


async def test_what_the_tenant_allows_is_no_incident(settled: Organisation) -> None:
    await PolicyService(settled.runtime.db).add(settled.actor, action="allow", pattern="parcel.evil.example")
    await turn_bad(settled)
    assert await found(settled) == []


async def test_an_analyst_marks_a_host_and_it_is_blocked_and_its_copies_found(settled: Organisation) -> None:
    analyst = Actor(ActorKind.PERSON, settled.tenant_id, Role.ANALYST, uuid.uuid4(), "ana@nordwind.example")
    db = settled.runtime.db
    with pytest.raises(Forbidden):
        await mark_malicious(db, analyst, "evil.example", quarantine=True)
    number = await mark_malicious(db, analyst, "evil.example", quarantine=False)
    assert await mark_malicious(db, analyst, "evil.example", quarantine=False) == number
    await work_off(settled.runtime)
    (incident,) = await found(settled)
    assert (incident.id, incident.cause, incident.messages, incident.alerts) == (number, "person", 2, 1)
    snapshot = await PolicyService(db).snapshot(settled.tenant_id)
    assert snapshot.at_click((BAD,), "unknown").action == "block"
    with pytest.raises(Refused):
        await mark_malicious(db, analyst, "not a host", quarantine=False)
    with pytest.raises(Forbidden):
        reader = Actor(ActorKind.PERSON, settled.tenant_id, Role.AUDITOR, uuid.uuid4(), "audit@nordwind.example")
        await mark_malicious(db, reader, "evil.example", quarantine=False)


@pytest.mark.parametrize("target", ["com", "*.co.uk", "https://github.io/"])
async def test_nobody_marks_everything_below_a_public_suffix(settled: Organisation, target: str) -> None:
    with pytest.raises(Refused, match="not one site"):
        await mark_malicious(settled.runtime.db, settled.actor, target, quarantine=False)
    assert await found(settled) == []


async def test_a_false_positive_is_allowed_from_then_on_released_and_stays_one(settled: Organisation) -> None:
    await automatic(settled)
    await turn_bad(settled)
    (incident,) = await found(settled)
    db = settled.runtime.db
    await mark_false_positive(db, settled.actor, incident.id, datetime.now(UTC))
    await work_off(settled.runtime)
    assert await moves(settled) == ["released", "released"]
    snapshot = await PolicyService(db).snapshot(settled.tenant_id)
    assert snapshot.at_click((BAD,), "malicious").action == "redirect"
    await turn_bad(settled, "more.example")
    (incident,) = await found(settled)
    assert incident.state == "false_positive"
    with pytest.raises(Conflict):
        await mark_false_positive(db, settled.actor, incident.id, datetime.now(UTC))


async def test_a_closed_incident_is_open_again_when_another_copy_comes(settled: Organisation) -> None:
    await turn_bad(settled)
    (incident,) = await found(settled)
    db = settled.runtime.db
    async with db.tenant(settled.tenant_id) as session:
        await close_incident(session, settled.actor, incident.id, datetime.now(UTC))
    await say(settled)
    assert [row.state for row in await found(settled)] == ["closed"]
    address = settled.people[1]
    settled.deliver(address, mail(address, "Again", BAD))
    await settled.sync(address)
    await turn_bad(settled, "more.example")
    (incident,) = await found(settled)
    assert (incident.state, incident.messages, incident.alerts) == ("open", 3, 2)


async def test_mail_older_than_the_days_that_are_looked_through_is_left_out(settled: Organisation) -> None:
    first, second = await with_bad_link(settled)
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        await session.execute(
            text("UPDATE messages SET seen_at = :at WHERE id = :id"),
            {"at": datetime.now(UTC) - timedelta(days=31), "id": first},
        )
    await turn_bad(settled)
    assert [copy.message_id for copy in await copies(settled)] == [second]


async def test_the_journey_goes_on_where_it_was_killed(settled: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A death before every single commit of the whole journey, each time in another place."""
    await automatic(settled)
    for name in ("LINKS_PER_STEP", "COPIES_PER_STEP"):
        monkeypatch.setattr(turn, name, 1)
    with feed_of(settled).open("a") as file:
        file.write("malicious\tevil.example\n")
    await heard(settled.runtime, str(settled.tenant_id))
    places = ("ensure_incident", "add_copies", "add_event", "request_move", "defer_alert", "defer_turn")
    survived = 0
    for name in places:
        real = getattr(turn, name)
        left = [1]

        async def dies(*args: Any, _real: Any = real, _left: list[int] = left, **more: Any) -> Any:
            result = await _real(*args, **more)
            if _left and _left.pop():
                raise Killed
            return result

        def dies_at_once(*args: Any, _real: Any = real, _left: list[int] = left, **more: Any) -> Any:
            _real(*args, **more)
            if _left and _left.pop():
                raise Killed

        monkeypatch.setattr(turn, name, dies_at_once if name == "add_event" else dies)
        for _ in range(60):
            job = await next_job(settled.runtime)
            if job is None:
                break
            number, task, args = job
            try:
                await TASKS[task](settled.runtime, **{**args, "tenant_id": uuid.UUID(args["tenant_id"])})
            except Killed:
                survived += 1
                await settled.restart()
                await give_back(settled.runtime)
                break
            await finish_job(settled.runtime, number)
        monkeypatch.setattr(turn, name, real)
    assert survived >= 4
    await work_off(settled.runtime)
    assert await moves(settled) == ["moved", "moved"]
    (incident,) = await found(settled)
    assert incident.messages == 2
    kinds = await happened(settled)
    assert kinds.count("opened") == 1
    assert kinds.count("quarantine") == 1


async def test_an_incident_is_the_tenants_own(settled: Organisation) -> None:
    await turn_bad(settled)
    (incident,) = await found(settled)
    stranger = Actor(ActorKind.PERSON, uuid.uuid4(), Role.OWNER, uuid.uuid4(), "eve@other.example")
    async with settled.runtime.db.tenant(stranger.tenant_id) as session:
        assert list(await session.scalars(select(Incident))) == []
        for ask in (request_quarantine, request_release_all):
            with pytest.raises(NotFound):
                await ask(session, stranger, incident.id)
        with pytest.raises(NotFound):
            await incidents.get_incident(session, stranger, incident.id)


async def test_a_person_of_low_rank_acts_on_no_incident(settled: Organisation) -> None:
    await turn_bad(settled)
    (incident,) = await found(settled)
    analyst = Actor(ActorKind.PERSON, settled.tenant_id, Role.ANALYST, uuid.uuid4(), "ana@nordwind.example")
    auditor = Actor(ActorKind.PERSON, settled.tenant_id, Role.AUDITOR, uuid.uuid4(), "aud@nordwind.example")
    async with settled.runtime.db.tenant(settled.tenant_id) as session:
        with pytest.raises(Forbidden):
            await request_quarantine(session, analyst, incident.id)
        with pytest.raises(Forbidden):
            await close_incident(session, auditor, incident.id, datetime.now(UTC))
        with pytest.raises(Refused):
            await change_turn_policy(session, settled.actor, TurnPolicy(webhook="http://plain.example/"))


@pytest.mark.parametrize("word", ["lists", "policy", "click"])
async def test_a_word_over_the_database_starts_the_journey(settled: Organisation, word: str) -> None:
    runtime = settled.runtime
    assert await settled.waiting(queue.TURN) == []
    listening = asyncio.create_task(listen_for_turns(runtime))
    try:
        for _ in range(500):
            # Said again until somebody listens: the first words may come before that.
            async with runtime.db.tenant(settled.tenant_id) as session:
                if word == "lists":
                    await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": FEEDS})
                elif word == "policy":
                    await notify_policy(session, settled.tenant_id)
                else:
                    await notify_turned(session, settled.tenant_id)
            waiting = await settled.waiting(queue.TURN)
            if waiting:
                break
            await asyncio.sleep(0.02)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert len(waiting) == 1
    assert (waiting[0] is not None) is (word == "lists"), "this machine's copy of new lists comes a little later"
