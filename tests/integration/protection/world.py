"""An organisation at an emulated provider, connected and protected, for tests of the journeys."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import select, text

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.copying import choose_copies
from app.protection.models import MailboxRow, MessageRow
from app.protection.providers import TenantGrant
from app.protection.roster import import_mailboxes
from app.protection.runtime import Runtime
from app.protection.sync import SyncReport, sync_mailbox
from app.settings import Settings
from app.tenants.actor import Actor, cli_actor
from app.tenants.models import Domain, Tenant
from connectors.base.types import Provider
from connectors.emulators.demo.google_setup import set_up_google
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.testing import Emulators

GATEWAY = "https://gw.example"


def provider_settings(emulators: Emulators, folder: Path, **more: Any) -> Settings:
    """Settings that lead to the emulated providers."""
    intake = more.get("intake_url", "http://127.0.0.1:9")
    setup = set_up_google(emulators.world, (), f"{intake}/hooks/google")
    google: Any = setup.as_json(emulators.base_url, emulators.world.google.issuer)
    key_file = folder / "key.json"
    key_file.write_text(json.dumps(google["service_account"]))
    values: dict[str, Any] = {
        "data_dir": folder,
        "gateway_url": GATEWAY,
        "microsoft_client_id": emulators.client_id,
        "microsoft_client_secret": SecretStr(emulators.client_secret),
        "microsoft_authority": emulators.authority,
        "microsoft_graph_url": emulators.graph_url,
        "google_service_account_file": key_file,
        "google_client_id": google["oauth_client"]["client_id"],
        "google_client_secret": SecretStr(google["oauth_client"]["client_secret"]),
        "google_api_url": google["api_url"],
        "google_token_url": google["token_url"],
        "google_issuer": google["issuer"],
        "google_certs_url": google["certs_url"],
        "google_pubsub_topic": google["topic"],
        "google_pubsub_subscription": google["subscription"],
        "google_push_service_account": google["push_service_account"],
    }
    return Settings(_env_file=None, **(values | more))


@dataclass
class Organisation:
    """A connected organisation and the emulated provider it is at."""

    runtime: Runtime
    emulators: Emulators
    provider: Provider
    tenant_id: uuid.UUID
    domain: str
    people: list[str]
    copies: bool = False
    """At Microsoft: changing received mail is refused, and replacing by copies was chosen."""

    @property
    def makes_copies(self) -> bool:
        """Whether a protected message is another one than the one that was delivered."""
        return self.copies or self.provider is Provider.GOOGLE

    @property
    def actor(self) -> Actor:
        return cli_actor(self.tenant_id)

    def other_name(self) -> Provisioned:
        """The same organisation of the provider, as a sign-in under another of its domains would name it."""
        if self.provider is Provider.MICROSOFT:
            (tenant,) = self.emulators.world.microsoft.tenants.values()
            return Provisioned(self.provider, tenant.id.upper(), self.domain, tuple(self.people))
        return Provisioned(self.provider, "other.example", self.domain, tuple(self.people))

    def deliver(self, to: str, raw: bytes) -> str:
        return self.emulators.world.deliver(self.provider.value, to, raw)

    async def mailbox_id(self, address: str) -> int:
        async with self.runtime.db.tenant(self.tenant_id) as session:
            found = await session.scalar(select(MailboxRow.id).where(MailboxRow.address == address))
        assert found is not None
        return found

    async def messages(self) -> list[MessageRow]:
        async with self.runtime.db.tenant(self.tenant_id) as session:
            return list(await session.scalars(select(MessageRow).order_by(MessageRow.id)))

    async def sync(self, address: str | None = None) -> SyncReport:
        """Look at a person's mailbox (the first one's), in as many turns as it takes."""
        mailbox = await self.mailbox_id(address or self.people[0])
        while True:
            report = await sync_mailbox(self.runtime, self.tenant_id, mailbox)
            if not report.more:
                return report

    async def waiting(self, task: str) -> list[datetime | None]:
        """For when the waiting jobs of a task are scheduled."""
        query = text("SELECT scheduled_at FROM procrastinate_jobs WHERE task_name = :task AND status = 'todo'")
        async with self.runtime.db.untenanted() as session:
            return list((await session.execute(query, {"task": task})).scalars())

    async def restart(self) -> None:
        """The process died: another one starts with nothing in memory."""
        await self.runtime.providers.aclose()
        old = self.runtime
        providers = LoadedProviders(old.settings, old.keyring)
        self.runtime = Runtime(old.settings, old.db, old.keyring, providers, old.clock)

    def view(self, address: str) -> list[Any]:
        """What the mailbox's viewer shows a person, in full."""
        world = self.emulators.world
        if self.provider is Provider.MICROSOFT:
            from connectors.emulators.microsoft.view import MicrosoftView

            viewer: Any = MicrosoftView(world.microsoft)
        else:
            viewer = world.google
        return [
            viewer.message(address, entry.id)
            for entry in viewer.messages(address)
            if entry.place.lower() not in ("trash", "bin", "deleted items")
        ]

    def readable(self, address: str) -> list[str]:
        """HTML and text of every message that is not in the bin."""
        return [(message.html or "") + (message.text or "") for message in self.view(address)]


@dataclass(frozen=True)
class Provisioned:
    """An organisation as its provider knows it."""

    provider: Provider
    external_id: str
    domain: str
    addresses: tuple[str, ...]


def provision(emulators: Emulators, provider: Provider, client_id: str, names: tuple[str, ...]) -> Provisioned:
    """A new organisation at the emulated provider, with a mailbox per name and access granted.

    Args:
        client_id: The service account's numeric id, for Google.
    """
    domain = "nordwind.example" if provider is Provider.MICROSOFT else "kasuga.example"
    if provider is Provider.MICROSOFT:
        tenant, people = emulators.microsoft_tenant(*names, domain=domain)
        return Provisioned(provider, tenant.id, domain, tuple(person.address for person in people))
    google = emulators.world.google
    addresses = tuple(f"{name}@{domain}" for name in names)
    users = [NewUser(a, a.split("@")[0].title(), admin=i == 0) for i, a in enumerate(addresses)]
    google.create_domain(domain, "C0kasuga", users)
    google.delegate(
        "C0kasuga",
        client_id,
        [
            "https://www.googleapis.com/auth/gmail.modify",
            "https://www.googleapis.com/auth/admin.directory.user.readonly",
        ],
    )
    return Provisioned(provider, domain, domain, addresses)


async def register(
    database: Database, runtime: Runtime, made: Provisioned, *, protected: bool = True, dry_run: bool = False
) -> uuid.UUID:
    """The organisation in our database, as onboarding would leave it."""
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        row = Tenant(
            tenant_id=tenant_id,
            name=made.domain.partition(".")[0].title(),
            provider=made.provider.value,
            external_id=made.external_id,
            admin_address=made.addresses[0],
            status="active",
        )
        session.add(row)
        session.add(
            Domain(
                tenant_id=tenant_id,
                name=made.domain,
                protected=protected,
                dry_run=dry_run,
                protect_since=datetime.now(UTC) - timedelta(days=1),
            )
        )
        await session.flush()
        number = row.no
    grant = TenantGrant(tenant_id, number, made.provider, made.external_id, made.addresses[0])
    await import_mailboxes(database, runtime.providers, grant)
    return tenant_id


async def connect(
    database: Database,
    emulators: Emulators,
    provider: Provider,
    settings: Settings,
    keyring: KeyRing,
    *names: str,
    protected: bool = True,
    dry_run: bool = False,
) -> Organisation:
    """A new organisation at the provider, with a mailbox per name, connected and (by default) protected."""
    key = json.loads((settings.google_service_account_file or Path()).read_text())
    made = provision(emulators, provider, key["client_id"], names or ("ada",))
    runtime = Runtime(settings, database, keyring, LoadedProviders(settings, keyring))
    tenant_id = await register(database, runtime, made, protected=protected, dry_run=dry_run)
    return Organisation(runtime, emulators, provider, tenant_id, made.domain, list(made.addresses))


async def choose_copies_for(organisation: Organisation) -> None:
    """It is after 31 December 2026, the advanced permission is not granted, and the administrator chose copies."""
    state = organisation.emulators.world.microsoft
    tenant = next(iter(state.tenants))
    state.revoke(tenant, organisation.emulators.client_id)
    state.grant(tenant, organisation.emulators.client_id, ("Mail.ReadWrite", "User.Read.All"))
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await choose_copies(session, organisation.actor, True)
    organisation.copies = True
    await organisation.restart()  # with a token that has the roles of now


def mail(to: str, subject: str = "Hello", link: str = "https://news.example/a?x=1&y=2", n: int = 0) -> bytes:
    """A message in HTML and text with one link in each."""
    return (
        f"From: Sender <sender@other.example>\r\nTo: {to}\r\nSubject: {subject}\r\n"
        f"Message-ID: <{uuid.uuid4()}@other.example>\r\nDate: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S +0000}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nRead {link} now ({n}).\r\n"
        "--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        f'<html><body><p>Read <a href="{link.replace("&", "&amp;")}">this</a> now ({n}).</p></body></html>\r\n--b--\r\n'
    ).encode()
