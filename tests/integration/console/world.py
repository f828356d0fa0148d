"""The real console on loopback, over a real database, the real connectors and the emulated providers."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx
import uvicorn
from sqlalchemy import select, text

from app.bootstrap import LoadedProviders
from app.console.app import ConsoleDeps, create_console
from app.console.browser import cookie_name, csrf_token
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls
from app.protection.roster import refresh_mailboxes
from app.protection.runtime import Runtime
from app.settings import Settings
from app.tenants.actor import Role
from app.tenants.models import Domain, Session, Tenant, User
from app.tenants.sessions import cookie_value, token_hash
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.testing import Emulators, running_emulators

SCOPES = (
    "https://www.googleapis.com/auth/gmail.modify",
    "https://www.googleapis.com/auth/admin.directory.user.readonly",
)


class Postgres(Protocol):
    """The running server, see ``tests/conftest.py``."""

    def create(self) -> DatabaseUrls: ...
    def drop(self, urls: DatabaseUrls) -> None: ...


class ConsoleClock:
    """The time as the console sees it; tests move it."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass
class Console:
    """A running console with everything around it."""

    url: str
    database: Database
    keys: KeyRing
    settings: Settings
    providers: LoadedProviders
    emulators: Emulators
    clock: ConsoleClock
    google_client_id: str
    number: int = 0
    browsers: list[Browser] = field(default_factory=list)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def renew(self) -> None:
        """Made ready for the next test: other organisations, real time, no browsers left."""
        self.number += 1
        self.clock.offset = timedelta()
        while self.browsers:
            await self.browsers.pop().http.aclose()

    @property
    def domain(self) -> str:
        """Mail domain of this test's Microsoft organisation."""
        return f"nordwind{self.number}.example"

    @property
    def google_domain(self) -> str:
        """Mail domain of this test's Workspace organisation."""
        return f"kirschblute{self.number}.example"

    @property
    def deps(self) -> ConsoleDeps:
        return ConsoleDeps(self.settings, self.database, self.keys, self.providers, self.clock)

    async def read_directories(self) -> None:
        """Do what a worker does with the waiting jobs that read a directory."""
        async with self._reading:
            async with self.database.untenanted() as session:
                found = await session.scalars(
                    text(
                        "DELETE FROM procrastinate_jobs WHERE task_name = 'mailboxes.refresh' AND status = 'todo' "
                        "RETURNING args->>'tenant_id'"
                    )
                )
                waiting = list(found)
            runtime = Runtime(self.settings, self.database, self.keys, self.providers, self.clock)
            for tenant_id in waiting:
                await refresh_mailboxes(runtime, uuid.UUID(tenant_id))

    def browser(self) -> Browser:
        """A fresh browser without cookies."""
        made = Browser(self)
        self.browsers.append(made)
        return made

    def microsoft(self, *names: str, domain: str = "", consent: bool = False) -> tuple[Any, list[Any]]:
        """An organisation in the emulated Entra ID; the first person administers it."""
        return self.emulators.microsoft_tenant(*names, domain=domain or self.domain, consent=consent)

    def google(self, *names: str, domain: str = "", delegated: bool = False) -> list[Any]:
        """An organisation in the emulated Workspace; the first person administers it."""
        state = self.emulators.world.google
        domain = domain or self.google_domain
        customer = f"C{uuid.uuid4().hex[:8]}"
        state.create_domain(
            domain,
            customer,
            [NewUser(f"{name}@{domain}", name.title(), admin=at == 0) for at, name in enumerate(names or ("hanako",))],
        )
        if delegated:
            self.delegate(customer)
        return [state.user(f"{name}@{domain}") for name in names or ("hanako",)]

    def delegate(self, customer: str) -> None:
        """What the Workspace administrator enters in the Admin console."""
        self.emulators.world.google.delegate(customer, self.google_client_id, SCOPES)

    async def make_tenant(self, name: str = "Nordwind", status: str = "active") -> uuid.UUID:
        """A tenant as it is after onboarding, without going through it."""
        tenant_id = uuid.uuid4()
        async with self.database.tenant(tenant_id) as session:
            session.add(
                Tenant(
                    tenant_id=tenant_id,
                    name=name,
                    provider="microsoft",
                    external_id=str(uuid.uuid4()),
                    status=status,
                    consented_at=self.clock(),
                )
            )
        return tenant_id

    async def signed_in(
        self, tenant_id: uuid.UUID, role: Role, email: str = "", subject: str = "", domains: list[str] | None = None
    ) -> Browser:
        """A browser with a session of a person of that role."""
        user_id, token = uuid.uuid4(), uuid.uuid4().hex * 2
        async with self.database.tenant(tenant_id) as session:
            # A domain administrator of these tests has all domains there are, unless a test gives others.
            names = list(await session.scalars(select(Domain.name))) if role is Role.DOMAIN_ADMIN else []
            email = email or f"{role.value}-{user_id.hex[:6]}@nordwind.example"
            session.add(
                User(
                    tenant_id=tenant_id,
                    id=user_id,
                    subject=subject or uuid.uuid4().hex,
                    email=email,
                    name=email.partition("@")[0],
                    role=role.value,
                    domains=names if domains is None else domains,
                )
            )
            session.add(
                Session(
                    tenant_id=tenant_id,
                    token_hash=token_hash(token),
                    user_id=user_id,
                    expires_at=self.clock() + timedelta(hours=1),
                )
            )
        browser = self.browser()
        browser.user_id = user_id
        browser.http.cookies.set(cookie_name(self.deps, "session"), cookie_value(tenant_id, token), domain="127.0.0.1")
        browser.csrf = csrf_token(self.keys, token_hash(token))
        return browser

    async def only_tenant(self, external_id: str, provider: str = "microsoft") -> Tenant:
        """The tenant row of a provider's organisation.

        Raises:
            LookupError: There is none.
        """
        from app.tenants.accounts import find_tenant
        from connectors.base.types import Provider

        found = await find_tenant(self.database, Provider(provider), external_id)
        if found is None:
            raise LookupError(external_id)
        async with self.database.tenant(found) as session:
            return (await session.scalars(select(Tenant))).one()


class Browser:
    """As much of a browser as signing in needs: cookies, and redirects one at a time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.http = httpx.AsyncClient(base_url=console.url, timeout=30)
        self.csrf = ""
        self.user_id: uuid.UUID | None = None

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """One request, no redirect followed."""
        answer = await self.http.get(path, **options)
        if "/onboarding/" in path:  # a consent that came back: the worker reads the directory
            await self.console.read_directories()
        return answer

    async def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """A form with this session's token."""
        answer = await self.http.post(path, data={"csrf": self.csrf, **(data or {})}, **options)
        if path.startswith(("/onboarding/", "/connector/")):
            await self.console.read_directories()
        return answer

    async def page(self, path: str) -> str:
        """A page's text; remembers its form token.

        Raises:
            AssertionError: It was not answered with 200.
        """
        response = await self.http.get(path)
        assert response.status_code == 200, (path, response.status_code, response.text[:2000])
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', response.text)
        if found:
            self.csrf = found[1]
        return response.text

    async def to_provider(self, provider: str, following: str = "") -> str:
        """Press "Sign in": where the console sends the browser."""
        started = await self.get(f"/sign-in/{provider}" + (f"?next={following}" if following else ""))
        assert started.status_code == 303, started.text[:2000]
        return started.headers["location"]

    async def at_microsoft(self, address: str, person: Any) -> str:
        """Choose a person on Microsoft's page: where that sends the browser."""
        back = await self.http.post(address, data={"person": person.id})
        assert back.status_code == 302, back.text[:2000]
        return back.headers["location"]

    async def at_google(self, address: str, person: Any) -> str:
        """Choose a person on Google's page: where that sends the browser."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        back = await self.http.post(address.partition("?")[0], data={**asked, "user": person.email})
        assert back.status_code in (302, 303), back.text[:2000]
        return back.headers["location"]

    async def sign_in(self, provider: str, person: Any) -> httpx.Response:
        """All of the sign-in; the answer is the console's to the callback."""
        address = await self.to_provider(provider)
        back = await (self.at_microsoft if provider == "microsoft" else self.at_google)(address, person)
        answer = await self.get(back)
        if answer.status_code == 303:
            await self.page((await self.get("/")).headers["location"])
        return answer

    async def to_consent(self) -> str:
        """Press "Grant access": the address of the consent page."""
        started = await self.post("/onboarding/grant")
        assert started.status_code == 303, started.text[:2000]
        return started.headers["location"]

    async def accept_consent(self, address: str) -> str:
        """Accept on the consent page: where that sends the browser."""
        shown = await self.http.get(address)
        proof = re.search(r'name="proof" value="([^"]+)"', shown.text)
        assert proof, shown.text[:2000]
        back = await self.http.post(address, data={"accept": "1", "proof": proof[1]})
        assert back.status_code == 302, back.text[:2000]
        return back.headers["location"]


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    """Wait until it listens; the listener is bound before, so this is a matter of milliseconds."""
    while not server.started and not serving.done():
        await asyncio.wait({serving}, timeout=0.005)
    if serving.done():
        await serving


@asynccontextmanager
async def console_on_fresh_database(postgres: Postgres, folder: Path) -> AsyncIterator[Console]:
    """A console on a database of its own, for all tests of a module."""
    urls = postgres.create()
    database = Database(urls.app)
    try:
        async with running_console(database, KeyRing({1: bytes(range(32))}), folder) as console:
            yield console
    finally:
        await database.close()
        postgres.drop(urls)


@asynccontextmanager
async def running_console(database: Database, keys: KeyRing, folder: Path) -> AsyncIterator[Console]:
    """Serve a console and the emulated providers until the block ends."""
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with running_emulators(microsoft_client_secret="a-secret-of-the-tests") as emulators:
        google = emulators.world.google
        key = google.create_service_account("postern@test.iam.gserviceaccount.com")
        key_file = folder / "service-account.json"
        key_file.write_text(json.dumps(key))
        oauth = google.create_oauth_client([f"{url}/sign-in/callback/google"])
        settings = Settings(
            _env_file=None,
            data_dir=folder,
            master_key=base64.b64encode(bytes(range(32))).decode(),
            console_url=url,
            gateway_url=url,
            intake_url=url,
            microsoft_client_id=emulators.client_id,
            microsoft_client_secret="a-secret-of-the-tests",
            microsoft_authority=emulators.authority,
            microsoft_graph_url=emulators.graph_url,
            google_service_account_file=key_file,
            google_client_id=oauth.client_id,
            google_client_secret=oauth.secret,
            google_api_url=emulators.google_url,
            google_token_url=f"{emulators.google_url}/token",
            google_issuer=google.issuer,
            google_certs_url=f"{emulators.google_url}/oauth2/v3/certs",
            google_admin_url=f"{emulators.google_url}/admin",
        )
        providers = LoadedProviders(settings, keys)
        clock = ConsoleClock()
        console = Console(
            url, database, keys, settings, providers, emulators, clock, google_client_id=str(key["client_id"])
        )
        app = create_console(console.deps)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _started(server, serving)
            yield console
        finally:
            for browser in console.browsers:
                await browser.http.aclose()
            server.should_exit = True
            await serving
            listener.close()
            await providers.aclose()
