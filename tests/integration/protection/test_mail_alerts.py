"""Mails to administrators: over TLS to a real server, in their language, tried again, given up, never twice."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.errors import Conflict, Refused
from app.protection.incident_models import IncidentEvent
from app.protection.incidents import ensure_incident
from app.protection.mail_alerts import (
    INCIDENTS_AN_HOUR,
    MAX_TRIES,
    MailPolicy,
    change_mail_policy,
    mail_of_incident,
    request_test,
    send_mails,
    take_up_mails,
)
from app.protection.mail_models import MailAlert
from app.protection.mail_words import Said, compose, defanged
from app.protection.queue import MAIL
from app.protection.runtime import Runtime
from app.protection.sync import stop_tenant
from app.protection.turn import tell
from app.protection.turn_match import Subject
from app.settings import Settings
from app.tenants.actor import cli_actor
from app.tenants.models import Tenant
from tests.integration.protection.submission import HOST, Submission, submission

pytestmark = pytest.mark.anyio

SOC, BOSS = "soc@nordwind.example", "boss@nordwind.example"
SUBJECT = Subject("checked", "pay.evil.example/?who=ada@nordwind.example", "exact", host="pay.evil.example")


class Clock:
    """The worker's time; tests move it."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.fixture
async def tenant(database: Database) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(
            Tenant(tenant_id=tenant_id, name="Nordwind", provider="google", external_id="nordwind", status="active")
        )
    return tenant_id


def runtime_of(database: Database, folder: Path, server: Submission, **more: Any) -> Runtime:
    options: dict[str, Any] = {
        "smtp_host": HOST,
        "smtp_from": "postern@example.com",
        "smtp_ca_file": server.certificate,
    } | more
    settings = Settings(data_dir=folder, smtp_port=server.port, console_url="https://console.example", **options)
    keys = KeyRing({1: bytes(range(32))})
    return Runtime(settings, database, keys, LoadedProviders(settings, keys), Clock())


async def told(database: Database, tenant_id: uuid.UUID, *recipients: str, locale: str = "en") -> None:
    async with database.tenant(tenant_id) as session:
        await change_mail_policy(session, cli_actor(tenant_id), MailPolicy(recipients, locale))


async def open_incident(database: Database, tenant_id: uuid.UUID) -> int:
    async with database.tenant(tenant_id) as session:
        incident = await ensure_incident(session, tenant_id, SUBJECT, cause="click")
        incident.searched, incident.messages = True, 1_200
        await session.flush()
        await tell(session, tenant_id)
        return incident.id


async def journal(database: Database, tenant_id: uuid.UUID) -> list[tuple[str, str, str, int]]:
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(select(MailAlert).order_by(MailAlert.id))
        return [(row.recipient, row.state, row.error, row.failures) for row in rows]


async def waiting_jobs(database: Database) -> int:
    async with database.untenanted() as session:
        query = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = :name AND status = 'todo'")
        return int(await session.scalar(query, {"name": MAIL}) or 0)


async def test_everybody_is_told_of_an_incident_once_and_the_mail_says_no_names(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    await told(database, tenant, SOC, BOSS)
    async with submission(tmp_path) as server:
        runtime = runtime_of(database, tmp_path, server)
        number = await open_incident(database, tenant)
        assert await waiting_jobs(database) == 1
        for _ in range(3):
            await send_mails(runtime, tenant)
    assert [recipient for recipient, _, _ in server.got] == [SOC, BOSS]
    _, message, secure = server.got[0]
    assert secure
    assert (message["To"], message["From"], message["Auto-Submitted"]) == (SOC, "postern@example.com", "auto-generated")
    assert message["Subject"] == "Postern: a delivered link turned out to be dangerous"
    body = message.get_content().splitlines()
    assert "Site: pay[.]evil[.]example" in body
    assert "Messages with it found so far: 1,200" in body
    assert f"https://console.example/incidents/{number}" == body[-1]
    assert "evil.example" not in message.as_string()
    assert "ada@" not in message.as_string()
    assert len({message["Message-ID"] for _, message, _ in server.got}) == 2
    assert await journal(database, tenant) == [(SOC, "sent", "", 0), (BOSS, "sent", "", 0)]
    async with database.tenant(tenant) as session:
        assert list(await session.scalars(select(IncidentEvent.kind).order_by(IncidentEvent.id))) == [
            "opened",
            "mailed",
        ]
        await tell(session, tenant)
    assert len(await journal(database, tenant)) == 2


@pytest.mark.parametrize(
    ("locale", "subject", "line"),
    [
        ("de", "Postern: Der Schutz wurde angehalten", "Eine nötige Berechtigung fehlt."),
        ("ja", "Postern: 保護が停止しました", "必要な権限が不足しています。"),
    ],
)
async def test_that_protection_stopped_is_told_in_the_chosen_language(
    database: Database, tenant: uuid.UUID, tmp_path: Path, locale: str, subject: str, line: str
) -> None:
    await told(database, tenant, SOC, locale=locale)
    async with submission(tmp_path, tls=True) as server:
        runtime = runtime_of(
            database, tmp_path, server, smtp_tls="tls", smtp_user="postern", smtp_password=SecretStr("right")
        )
        for _ in range(2):
            await stop_tenant(runtime, tenant, "blocked", "the provider's words about ada@nordwind.example")
        await send_mails(runtime, tenant)
    ((_, message, secure),) = server.got
    assert secure
    assert server.logins == [("postern", "right")]
    assert message["Subject"] == subject
    assert line in message.get_content()
    assert "ada@" not in message.get_content()


async def test_without_tls_nothing_is_handed_in_unless_the_operator_says_so(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    await told(database, tenant, SOC)
    await open_incident(database, tenant)
    async with submission(tmp_path) as server:
        server.offers_tls = False
        await send_mails(runtime_of(database, tmp_path, server), tenant)
        assert await journal(database, tenant) == [(SOC, "waiting", "no_tls", 1)]
        assert server.got == []
        later = runtime_of(database, tmp_path, server, smtp_tls="none")
        later.clock.offset += timedelta(hours=1)  # type: ignore[attr-defined]  # the clock of these tests
        await send_mails(later, tenant)
        assert [secure for _, _, secure in server.got] == [False]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"smtp_ca_file": None}, "tls CERTIFICATE_VERIFY_FAILED"),
        ({"smtp_host": "127.0.0.1"}, "tls CERTIFICATE_VERIFY_FAILED"),
        ({"smtp_user": "postern", "smtp_password": SecretStr("wrong")}, "login 535"),
        ({"smtp_tls": "none", "smtp_user": "postern", "smtp_password": SecretStr("right")}, "no_tls"),
        ({"smtp_host": ""}, "no_server"),
    ],
)
async def test_a_server_that_is_not_the_right_one_gets_neither_mail_nor_password(
    database: Database, tenant: uuid.UUID, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    await told(database, tenant, SOC)
    await open_incident(database, tenant)
    async with submission(tmp_path) as server:
        await send_mails(runtime_of(database, tmp_path, server, **options), tenant)
    assert server.got == []
    assert "right" not in str(server.logins)
    ((_, state, error, _),) = await journal(database, tenant)
    assert state == "waiting"
    assert problem in error


async def test_one_that_is_refused_is_tried_again_and_given_up_in_the_end_while_others_get_theirs(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    await told(database, tenant, SOC, BOSS)
    await open_incident(database, tenant)
    async with submission(tmp_path) as server:
        server.answers[BOSS] = f"550 no {BOSS} here"
        runtime = runtime_of(database, tmp_path, server)
        for _ in range(MAX_TRIES + 2):
            await send_mails(runtime, tenant)
            runtime.clock.offset += timedelta(hours=1)  # type: ignore[attr-defined]  # the clock of these tests
    assert [recipient for recipient, _, _ in server.got] == [SOC]
    assert await journal(database, tenant) == [
        (SOC, "sent", "", 0),
        (BOSS, "failed", "recipient 550", MAX_TRIES),
    ]
    async with database.tenant(tenant) as session:
        kinds = list(await session.scalars(select(IncidentEvent.kind).order_by(IncidentEvent.id)))
    assert kinds == ["opened", "mailed", "mail_failed"]


async def test_what_the_server_took_before_it_hung_up_is_not_sent_again(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    last = "zoe@nordwind.example"
    await told(database, tenant, SOC, BOSS, last)
    await open_incident(database, tenant)
    async with submission(tmp_path) as server:
        server.answers[BOSS] = "421 too busy"  # the client hangs up on that (RFC 5321, section 3.8)
        runtime = runtime_of(database, tmp_path, server)
        await send_mails(runtime, tenant)
        assert [state for _, state, _, _ in await journal(database, tenant)] == ["sent", "waiting", "waiting"]
        server.answers.clear()
        runtime.clock.offset += timedelta(hours=1)  # type: ignore[attr-defined]  # the clock of these tests
        await send_mails(runtime, tenant)
    assert [recipient for recipient, _, _ in server.got] == [SOC, BOSS, last]


async def test_a_server_that_is_away_puts_mails_off_and_a_lost_job_is_found_again(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    await told(database, tenant, SOC)
    await open_incident(database, tenant)
    async with submission(tmp_path) as server:
        runtime = runtime_of(database, tmp_path, server)
    await send_mails(runtime, tenant)  # nobody listens there any more
    ((_, state, error, failures),) = await journal(database, tenant)
    assert (state, failures) == ("waiting", 1)
    assert "no_connection" in error
    async with database.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    await take_up_mails(runtime, tenant)
    assert await waiting_jobs(database) == 0, "it is not due yet"
    runtime.clock.offset += timedelta(hours=1)  # type: ignore[attr-defined]  # the clock of these tests
    await take_up_mails(runtime, tenant)
    assert await waiting_jobs(database) == 1


async def test_a_try_after_a_kill_bears_the_same_name(database: Database, tenant: uuid.UUID, tmp_path: Path) -> None:
    await told(database, tenant, SOC)
    await open_incident(database, tenant)
    async with submission(tmp_path) as server:
        runtime = runtime_of(database, tmp_path, server)
        await send_mails(runtime, tenant)
        async with database.tenant(tenant) as session:  # as a process leaves it that was killed before its note
            await session.execute(text("UPDATE mail_alerts SET state = 'waiting', ended_at = NULL"))
        await send_mails(runtime, tenant)
    first, second = (message for _, message, _ in server.got)
    assert first["Message-ID"] == second["Message-ID"]


async def test_who_is_not_to_be_told_any_more_is_not_and_what_ended_long_ago_is_forgotten(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    await told(database, tenant, SOC, BOSS)
    await open_incident(database, tenant)
    await told(database, tenant, BOSS)
    async with submission(tmp_path) as server:
        runtime = runtime_of(database, tmp_path, server)
        await send_mails(runtime, tenant)
        assert [recipient for recipient, _, _ in server.got] == [BOSS]
        runtime.clock.offset += timedelta(days=31)  # type: ignore[attr-defined]  # the clock of these tests
        await send_mails(runtime, tenant)
    assert await journal(database, tenant) == []


async def test_a_test_mail_comes_at_once_and_not_more_than_once_a_minute(
    database: Database, tenant: uuid.UUID, tmp_path: Path
) -> None:
    async with submission(tmp_path) as server:
        runtime = runtime_of(database, tmp_path, server)
        async with database.tenant(tenant) as session:
            with pytest.raises(Refused):
                await request_test(session, cli_actor(tenant), runtime.clock())
        await told(database, tenant, SOC, BOSS)
        async with database.tenant(tenant) as session:
            assert await request_test(session, cli_actor(tenant), runtime.clock()) == 2
            with pytest.raises(Conflict):
                await request_test(session, cli_actor(tenant), runtime.clock())
        await send_mails(runtime, tenant)
    assert [message["Subject"] for _, message, _ in server.got] == ["Postern: a test mail"] * 2


@pytest.mark.parametrize(
    "recipients",
    [
        ("nobody",),
        ("a@b",),
        ("a@b.example\r\nBcc: x@y.example",),
        ("a b@c.example",),
        tuple(f"n{n}@a.example" for n in range(11)),
    ],
)
async def test_what_is_no_address_is_refused_and_nothing_changes(
    database: Database, tenant: uuid.UUID, recipients: tuple[str, ...]
) -> None:
    await told(database, tenant, SOC)
    with pytest.raises(Refused):
        await told(database, tenant, *recipients)
    async with database.tenant(tenant) as session:
        assert MailPolicy.of(await session.get_one(Tenant, tenant)).recipients == (SOC,)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Bank https://evil.example/x", "Bank https:/ /evil[.]example/x"),
        ("http://192.0.2.1", "http:/ /192[.]0[.]2[.]1"),
        ("Call ada@evil.example", "Call ada@evil[.]example"),
        ("Nord S.p.A., Wind Inc.", "Nord S.p.A., Wind Inc."),
    ],
)
def test_nothing_makes_a_link_of_a_name_either(name: str, shown: str) -> None:
    about = Said("test", name, datetime.now(UTC))
    mail = compose(
        about, "en", recipient=SOC, sender="p@example.com", console_url="https://console.example", key=uuid.uuid4()
    )
    assert f"the settings of {shown}." in mail.get_content()


async def test_a_flood_of_incidents_is_told_at_a_bounded_rate_and_in_the_end(
    database: Database, tenant: uuid.UUID
) -> None:
    await told(database, tenant, SOC, BOSS)
    async with database.tenant(tenant) as session:
        for number in range(2 * INCIDENTS_AN_HOUR + 1):
            host = f"n{number}.evil.example"
            incident = await ensure_incident(
                session, tenant, Subject("checked", host, "host", host=host), cause="click"
            )
            await session.flush()
            await mail_of_incident(session, tenant, incident.id)
        turns = sorted(await session.scalars(select(MailAlert.not_before)))
    assert len(turns) == 2 * (2 * INCIDENTS_AN_HOUR + 1)
    within = 2 * INCIDENTS_AN_HOUR
    assert all(later - first >= timedelta(hours=1) for first, later in zip(turns, turns[within:], strict=False))


@pytest.mark.parametrize(("host", "shown"), [("a.b.example", "a[.]b[.]example"), ("", "–"), ("a\r\nb.c", "a  b[.]c")])
def test_a_host_is_written_so_that_nothing_makes_a_link_of_it(host: str, shown: str) -> None:
    assert defanged(host) == shown
