"""A tenant with one object of each kind that an address of the console can name."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass

from app.gateway.models import Click, ClickReport
from app.policy.models import ListEntry
from app.protection.incident_models import Incident, IncidentMessage
from app.protection.models import BackfillRun, MailboxRow, MessageMove, MessageRow, RestoreRun
from app.tenants.models import Domain, Tenant, User
from tests.integration.console.world import Console

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""


@dataclass(frozen=True)
class Estate:
    """A tenant with one object of each kind."""

    tenant_id: uuid.UUID
    objects: dict[str, str]


async def make_estate(console: Console) -> Estate:
    tenant_id = await console.make_tenant()
    report_id, user_id = uuid.uuid4(), uuid.uuid4()
    async with console.database.tenant(tenant_id) as session:
        tenant = await session.get_one(Tenant, tenant_id)
        tenant.settings = {
            "gateway": {"words": {"logo": base64.b64encode(PIXEL).decode()}},
            "mail": {"recipients": ["soc@nordwind.example"]},
        }
        mailbox = MailboxRow(
            tenant_id=tenant_id, external_id="box", address="ada@nordwind.example", domain="nordwind.example"
        )
        entry = ListEntry(tenant_id=tenant_id, action="allow", pattern="good.example")
        domain = Domain(tenant_id=tenant_id, name="nordwind.example", protected=True, protect_since=console.clock())
        person = User(tenant_id=tenant_id, id=user_id, subject="s", email="colleague@nordwind.example", role="user")
        session.add_all([mailbox, entry, domain, person])
        await session.flush()
        message = MessageRow(
            tenant_id=tenant_id,
            mailbox_id=mailbox.id,
            external_id="m",
            current_id="m",
            state="protected",
            subject="A secret subject",
        )
        session.add(message)
        await session.flush()
        session.add(
            Click(
                tenant_id=tenant_id,
                id=uuid.uuid4(),
                at=console.clock(),
                mailbox_id=mailbox.id,
                message_id=message.id,
                url="https://secret.example/",
                host="secret.example",
                level="clean",
                action="redirect",
            )
        )
        session.add(
            ClickReport(
                tenant_id=tenant_id,
                id=report_id,
                at=console.clock(),
                kind="release",
                url="https://asked.example/",
                host="asked.example",
            )
        )
        run = RestoreRun(tenant_id=tenant_id, scope="tenant", target="", requested_by="ada@nordwind.example")
        backfill = BackfillRun(
            tenant_id=tenant_id,
            scope="tenant",
            target="",
            since=console.clock(),
            until=console.clock(),
            requested_by="ada@nordwind.example",
        )
        failed, moved = (
            MessageRow(
                tenant_id=tenant_id, mailbox_id=mailbox.id, external_id=name, current_id=name, state=name, subject=name
            )
            for name in ("failed", "protected")
        )
        session.add_all([run, backfill, failed, moved])
        await session.flush()
        move = MessageMove(
            tenant_id=tenant_id,
            message_id=moved.id,
            mailbox_id=mailbox.id,
            place="quarantine",
            why="A secret reason",
            state="moved",
            requested_by="ada@nordwind.example",
        )
        session.add(move)
        incident, ended = (
            Incident(tenant_id=tenant_id, kind="listed", subject=f"secret{state}.example/", state=state)
            for state in ("open", "closed")
        )
        session.add_all([incident, ended])
        await session.flush()
        session.add(
            IncidentMessage(
                tenant_id=tenant_id,
                incident_id=incident.id,
                message_id=moved.id,
                mailbox_id=mailbox.id,
                urls=["https://secret.example/"],
                move_id=move.id,
            )
        )
        objects = {
            "incident_id": str(incident.id),
            "ended_id": str(ended.id),
            "backfill_id": str(backfill.id),
            "failed_id": str(failed.id),
            "move_id": str(move.id),
            "run_id": str(run.id),
            "message_id": str(message.id),
            "mailbox_id": str(mailbox.id),
            "entry_id": str(entry.id),
            "report_id": str(report_id),
            "user_id": str(user_id),
            "name": domain.name,
            "domain": domain.name,
        }
    return Estate(tenant_id, objects)


def absent(objects: dict[str, str]) -> dict[str, str]:
    """The same kinds of names, of things that never were."""
    return {
        **objects,
        "message_id": "987654321",
        "mailbox_id": "987654321",
        "entry_id": "987654321",
        "report_id": str(uuid.uuid4()),
        "run_id": "987654321",
        "incident_id": "987654321",
        "ended_id": "987654321",
        "backfill_id": "987654321",
        "failed_id": "987654321",
        "move_id": "987654321",
        "user_id": str(uuid.uuid4()),
        "name": "never.example",
    }
