"""Incidents and who received their links are forgotten after a time."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app.gateway.models import Click
from app.kit.clock import utc_now
from app.protection import incident_retention
from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage
from app.protection.incidents import add_event, ensure_incident
from app.protection.models import MessageMove
from app.protection.tasks import purge
from app.protection.turn_match import Subject
from connectors.base.types import Provider
from tests.integration.protection.world import Organisation

# Nothing of this depends on the provider.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("organisation", [Provider.GOOGLE], indirect=True)]

NOW = utc_now()
LONG_AGO = NOW - timedelta(days=366)


async def make(organisation: Organisation, name: str, copies: int = 1, **values: Any) -> int:
    """An incident of long ago."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        incident = await ensure_incident(
            session, organisation.tenant_id, Subject("listed", f"{name}.example/", "", f"{name}.example"), cause="list"
        )
        for number in range(copies):
            session.add(
                IncidentMessage(
                    tenant_id=organisation.tenant_id,
                    incident_id=incident.id,
                    message_id=number + 1,
                    mailbox_id=1,
                    found_at=LONG_AGO,
                )
            )
        add_event(session, incident, "closed", "Ada")
        await session.flush()
        old = {"updated_at": LONG_AGO, "ended_at": LONG_AGO, "state": "closed", **values}
        await session.execute(update(Incident).where(Incident.id == incident.id).values(**old))
        return incident.id


async def left(organisation: Organisation) -> tuple[list[str], list[int], list[int]]:
    """Subjects; incidents of the copies; incidents of the events but for the first."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        subjects = await session.scalars(select(Incident.subject).order_by(Incident.id))
        copies = await session.scalars(select(IncidentMessage.incident_id).order_by(IncidentMessage.incident_id))
        events = await session.scalars(select(IncidentEvent.incident_id).distinct().order_by(IncidentEvent.incident_id))
        return list(subjects), list(copies), list(events)


async def test_what_ended_long_ago_is_forgotten_with_its_copies_and_its_clicks_go_on(
    organisation: Organisation,
) -> None:
    old = await make(organisation, "old")
    recent = await make(organisation, "recent", ended_at=NOW, updated_at=NOW)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        for number in (old, recent):
            session.add(
                Click(
                    tenant_id=organisation.tenant_id,
                    id=uuid.uuid4(),
                    at=NOW,
                    url="https://old.example/",
                    host="old.example",
                    level="malicious",
                    rule="",
                    action="block",
                    incident_id=number,
                )
            )
    await purge(organisation.runtime, organisation.tenant_id)
    subjects, copies, events = await left(organisation)
    assert subjects == ["recent.example/"]
    assert copies == []  # found long ago as well
    assert events == [recent]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert sorted(await session.scalars(select(Click.incident_id))) == sorted([0, recent])


async def test_an_open_incident_stays_and_forgets_old_copies(organisation: Organisation) -> None:
    open_one = await make(organisation, "open", state="open", ended_at=None)
    await purge(organisation.runtime, organisation.tenant_id)
    assert await left(organisation) == (["open.example/"], [], [open_one])


@pytest.mark.parametrize(("state", "kept"), [("moved", True), ("releasing", True), ("released", False)])
async def test_copies_in_quarantine_are_kept_until_they_are_released(
    organisation: Organisation, state: str, kept: bool
) -> None:
    number = await make(organisation, "held")
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        move = MessageMove(
            tenant_id=organisation.tenant_id,
            message_id=1,
            mailbox_id=1,
            place="quarantine",
            state=state,
            requested_by="Ada",
        )
        session.add(move)
        await session.flush()
        await session.execute(update(IncidentMessage).values(move_id=move.id))
    await purge(organisation.runtime, organisation.tenant_id)
    assert await left(organisation) == ((["held.example/"], [number], [number]) if kept else ([], [], []))


async def test_more_than_a_batch_is_forgotten(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_retention, "IN_BATCH", 2)
    monkeypatch.setattr("app.protection.tasks.IN_BATCH", 2)
    for number in range(3):
        await make(organisation, f"old{number}", copies=3)
    await make(organisation, "open", copies=5, state="open", ended_at=None)
    await purge(organisation.runtime, organisation.tenant_id)
    subjects, copies, _ = await left(organisation)
    assert (subjects, copies) == (["open.example/"], [])
