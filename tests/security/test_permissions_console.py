"""Every endpoint of the console against every role, another tenant, and nobody (threats: tenancy and sign-in).

The table below says who may; a route that is not in it fails the first test. Whatever names an object is
refused exactly as if the object did not exist.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.console.app import create_console
from app.gateway.models import Click
from app.protection.models import MailboxRow
from app.tenants.actor import Role
from app.tenants.models import Domain
from tests.integration.console.world import Browser, Console, Postgres, console_on_fresh_database
from tests.security.console_objects import PIXEL, absent, make_estate

pytestmark = pytest.mark.anyio

OWNER = frozenset({Role.OWNER})
CONFIGURE = frozenset({Role.OWNER, Role.OPERATOR})
AUDIT = CONFIGURE | {Role.AUDITOR}
INVESTIGATE = CONFIGURE | {Role.ANALYST}
VIEW = frozenset(Role) - {Role.USER}
ALL = frozenset(Role)
OPEN = None


@dataclass(frozen=True)
class Endpoint:
    """Who may call it, and what to send: names in braces are filled from the tenant's objects."""

    method: str
    path: str
    may: frozenset[Role] | None
    form: tuple[tuple[str, str], ...] = ()
    json: tuple[tuple[str, Any], ...] = ()
    names: str = ""
    query: str = ""
    file: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}{self.query}"


def get(path: str, may: frozenset[Role] | None, names: str = "", query: str = "") -> Endpoint:
    return Endpoint("GET", path, may, names=names, query=query)


def post(path: str, may: frozenset[Role], names: str = "", **form: str) -> Endpoint:
    return Endpoint("POST", path, may, form=tuple(form.items()), names=names)


ENDPOINTS = [
    get("/", OPEN),
    get("/language/{locale}", OPEN),
    get("/sign-in/{provider}", OPEN),
    get("/sign-in/callback/{provider}", OPEN),
    get("/onboarding/consent/callback/{provider}", OPEN),
    post("/sign-out", ALL),
    get("/onboarding", CONFIGURE),
    post("/onboarding/grant", OWNER),
    post("/onboarding/check", OWNER),
    post("/onboarding/protect", CONFIGURE, domains="{domain}"),
    get("/overview", VIEW),
    get("/messages", VIEW),
    get("/messages/{message_id}", VIEW, names="message_id"),
    post("/messages/{message_id}/restore", CONFIGURE, names="message_id"),
    get("/clicks", VIEW),
    get("/incidents", VIEW),
    get("/incidents/{incident_id}", VIEW, names="incident_id"),
    post("/incidents/mark", INVESTIGATE, target="bad.example", note="because"),
    post("/incidents/policy", CONFIGURE, quarantine="true", webhook="https://hooks.example/"),
    post("/incidents/{incident_id}/quarantine", CONFIGURE, names="incident_id"),
    post("/incidents/{incident_id}/release", CONFIGURE, names="incident_id"),
    post("/incidents/{incident_id}/close", INVESTIGATE, names="incident_id"),
    post("/incidents/{ended_id}/reopen", INVESTIGATE, names="ended_id"),
    post("/incidents/{incident_id}/false-positive", CONFIGURE, names="incident_id"),
    get("/what-if", VIEW, query="?url=https%3A%2F%2Fgood.example%2F&user={mailbox_id}"),
    get("/lists", VIEW),
    post("/lists", CONFIGURE, action="block", pattern="bad.example"),
    post("/lists/{entry_id}/remove", CONFIGURE, names="entry_id"),
    post("/lists/{entry_id}/move", CONFIGURE, names="entry_id", direction="up"),
    post("/lists/requests/{report_id}", CONFIGURE, names="report_id", decision="allow"),
    get("/threat-sources", VIEW),
    get("/connector", VIEW),
    post("/connector/check", CONFIGURE),
    post("/connector/pause", CONFIGURE),
    post("/connector/resume", CONFIGURE),
    post("/connector/mailboxes/{mailbox_id}/opt-out", CONFIGURE, names="mailbox_id", out="yes"),
    post("/connector/restores/{run_id}/cancel", CONFIGURE, names="run_id"),
    get("/connector/restore", CONFIGURE, names="mailbox_id", query="?scope=mailbox&target={mailbox_id}"),
    post("/connector/restore", CONFIGURE, names="mailbox_id", scope="mailbox", target="{mailbox_id}"),
    get("/connector-health", VIEW),
    get("/connector/choice", CONFIGURE),
    post("/connector/choice", CONFIGURE, mode="all"),
    post("/connector/refresh", CONFIGURE),
    post("/connector-health/retry", CONFIGURE),
    post("/messages/{failed_id}/retry", CONFIGURE, names="failed_id"),
    get("/quarantine", VIEW),
    post("/messages/{message_id}/move", CONFIGURE, names="message_id", place="quarantine", why="because"),
    post("/quarantine/{move_id}/release", CONFIGURE, names="move_id"),
    get("/backfill", VIEW),
    post("/backfill/choose", CONFIGURE, scope="tenant", days="3"),
    get("/backfill/start", CONFIGURE, names="mailbox_id", query="?scope=mailbox&target={mailbox_id}"),
    post("/backfill", CONFIGURE, names="mailbox_id", scope="mailbox", target="{mailbox_id}", days="3"),
    post("/backfill/{backfill_id}/cancel", CONFIGURE, names="backfill_id"),
    get("/offboarding", OWNER),
    post("/offboarding", OWNER, confirm="Nordwind"),
    post("/offboarding/cancel", OWNER),
    post("/offboarding/retry", OWNER),
    post("/offboarding/delete-anyway", OWNER, confirm="Nordwind"),
    get("/offboarding/receipts/{token}", OPEN),
    get("/offboarding/receipts/{token}/download", OPEN),
    get("/people", VIEW),
    post("/people/{user_id}/role", OWNER, names="user_id", role="analyst"),
    post("/people/{user_id}/sign-out", OWNER, names="user_id"),
    get("/audit", AUDIT),
    get("/settings", ALL),
    post("/settings/language", ALL, locale="de"),
    post("/settings/sign-out-everywhere", ALL),
    post("/settings/organisation", CONFIGURE, name="New name"),
    get("/settings/logo", ALL),
    Endpoint("POST", "/settings/logo", CONFIGURE, file=True),
    post("/settings/logo/remove", CONFIGURE),
    post("/settings/delivery", CONFIGURE, suspicious="redact", qr="deface"),
    post("/settings/copies", CONFIGURE, copies="true"),
    post("/settings/alerts", CONFIGURE, recipients="soc@nordwind.example", locale="de"),
    post("/settings/alerts/test", CONFIGURE),
    post("/settings/domains/{name}", CONFIGURE, names="name", protected="true"),
    get("/my-clicks", ALL),
    get("/api/v1/session", ALL),
    get("/api/v1/overview", VIEW),
    get("/api/v1/messages", VIEW),
    Endpoint("POST", "/api/v1/messages/search", VIEW, json=(("recipient", "ada@nordwind.example"),)),
    get("/api/v1/messages/{message_id}", VIEW, names="message_id"),
    get("/api/v1/clicks", VIEW),
    Endpoint("POST", "/api/v1/clicks/search", VIEW, json=(("search", "ada@nordwind.example"),)),
    get("/api/v1/incidents", VIEW),
    get("/api/v1/domains", VIEW),
    Endpoint("PUT", "/api/v1/domains/{name}", CONFIGURE, json=(("protected", True),), names="name"),
    get("/api/v1/restores", VIEW),
    Endpoint(
        "POST",
        "/api/v1/restores",
        CONFIGURE,
        json=(("scope", "message"), ("target", "{message_id}")),
        names="message_id",
    ),
]
GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.may is not None]
NAMING = [endpoint for endpoint in GUARDED if endpoint.names]


@pytest.fixture(scope="module")
async def module_console(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    """One console for all tests of the module."""
    async with console_on_fresh_database(postgres_server, tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture
async def console(module_console: Console) -> Console:
    """The console, with organisations of this test's own."""
    await module_console.renew()
    return module_console


async def call(browser: Browser, endpoint: Endpoint, objects: dict[str, str]) -> httpx.Response:
    path = (endpoint.path + endpoint.query).format(**objects)
    if endpoint.path.startswith("/api/"):
        body = {key: value.format(**objects) if isinstance(value, str) else value for key, value in endpoint.json}
        return await browser.http.request(
            endpoint.method, path, json=body or None, headers={"x-csrf-token": browser.csrf}
        )
    if endpoint.method == "GET":
        return await browser.get(path)
    more: dict[str, Any] = {"files": {"file": ("logo.png", PIXEL, "image/png")}} if endpoint.file else {}
    return await browser.post(path, {key: value.format(**objects) for key, value in endpoint.form}, **more)


async def audit_lines(console: Console, tenant_id: uuid.UUID) -> int:
    async with console.database.tenant(tenant_id) as session:
        return int(await session.scalar(text("SELECT count(*) FROM audit_log")) or 0)


def granted(endpoint: Endpoint, response: httpx.Response) -> bool:
    # Resuming what is not paused is a conflict, which only those are told who may resume; so with leaving.
    refused = {"/connector/resume", "/offboarding/cancel", "/offboarding/retry", "/offboarding/delete-anyway"}
    expected = (409,) if endpoint.path in refused else (200, 202, 303)
    return response.status_code in expected and not response.headers.get("location", "").startswith("/?")


def without_tokens(response: httpx.Response) -> str:
    return re.sub(r'value="[0-9a-f]{64}"', "", response.text)


def routes(console: Console) -> Iterator[tuple[str, str]]:
    app = create_console(console.deps)
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path
    from app.console.routes import ROUTERS

    for router in ROUTERS:
        for route in router.routes:
            for method in getattr(route, "methods", ()):
                if method != "HEAD":
                    yield method, getattr(route, "path", "")


async def test_every_route_is_in_the_table(console: Console) -> None:
    assert {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS} == set(routes(console))


@pytest.mark.parametrize("endpoint", GUARDED, ids=str)
async def test_a_role_that_may_not_is_refused_and_changes_nothing(console: Console, endpoint: Endpoint) -> None:
    estate = await make_estate(console)
    assert endpoint.may is not None
    for role in sorted(ALL - endpoint.may):
        browser = await console.signed_in(estate.tenant_id, role)
        before = await audit_lines(console, estate.tenant_id)
        response = await call(browser, endpoint, estate.objects)
        expected = {404} if endpoint.names else {403, 409} if "onboarding" in endpoint.path else {403}
        assert response.status_code in expected, (role, response.status_code)
        assert "secret" not in response.text
        assert await audit_lines(console, estate.tenant_id) == before


@pytest.mark.parametrize("endpoint", GUARDED, ids=str)
async def test_a_role_that_may_is_let_in(console: Console, endpoint: Endpoint) -> None:
    assert endpoint.may is not None
    for role in sorted(endpoint.may):
        estate = await make_estate(console)
        browser = await console.signed_in(estate.tenant_id, role)
        response = await call(browser, endpoint, estate.objects)
        assert granted(endpoint, response), (role, response.status_code, response.text[:500])


@pytest.mark.parametrize("endpoint", GUARDED, ids=str)
async def test_nobody_is_sent_to_sign_in_whether_the_object_exists_or_not(console: Console, endpoint: Endpoint) -> None:
    estate = await make_estate(console)
    nobody = console.browser()
    answers = [await call(nobody, endpoint, objects) for objects in (estate.objects, absent(estate.objects))]
    for response in answers:
        if endpoint.path.startswith("/api/"):
            assert (response.status_code, response.json()["code"]) == (401, "signed_out")
        else:
            assert response.status_code == 303
            assert response.headers["location"].partition("?")[0] == "/"
    if endpoint.path.startswith("/api/"):
        assert answers[0].text == answers[1].text
    assert await audit_lines(console, estate.tenant_id) == 0


@pytest.mark.parametrize("endpoint", NAMING, ids=str)
async def test_another_tenants_object_looks_exactly_like_one_that_never_was(
    console: Console, endpoint: Endpoint
) -> None:
    mine, theirs = await make_estate(console), await make_estate(console)
    async with console.database.tenant(theirs.tenant_id) as session:
        session.add(Domain(tenant_id=theirs.tenant_id, name="theirs.example"))
    foreign = {**theirs.objects, "name": "theirs.example", "domain": "theirs.example"}
    owner = await console.signed_in(mine.tenant_id, Role.OWNER)
    there = await call(owner, endpoint, foreign)
    never = await call(owner, endpoint, absent(foreign))
    assert there.status_code == never.status_code == 404
    assert without_tokens(there) == without_tokens(never)
    assert await audit_lines(console, theirs.tenant_id) == 0
    assert await audit_lines(console, mine.tenant_id) == 0


@pytest.mark.parametrize("endpoint", NAMING, ids=str)
async def test_an_end_user_cannot_tell_an_object_of_their_own_tenant_from_none(
    console: Console, endpoint: Endpoint
) -> None:
    estate = await make_estate(console)
    user = await console.signed_in(estate.tenant_id, Role.USER)
    there = await call(user, endpoint, estate.objects)
    never = await call(user, endpoint, absent(estate.objects))
    assert there.status_code == never.status_code == 404
    assert without_tokens(there) == without_tokens(never)


@pytest.mark.parametrize(
    "path",
    [
        "/overview",
        "/messages",
        "/clicks",
        "/lists",
        "/connector",
        "/connector-health",
        "/quarantine",
        "/backfill",
        "/people",
        "/audit",
    ],
)
async def test_lists_show_nothing_of_another_tenant(console: Console, path: str) -> None:
    await make_estate(console)
    empty = await console.make_tenant("Other")
    owner = await console.signed_in(empty, Role.OWNER)
    page = await owner.page(path)
    for word in ("secret", "asked.example", "good.example", "ada@nordwind.example", "colleague@"):
        assert word not in page


async def test_a_user_sees_their_own_clicks_and_nobody_elses(console: Console) -> None:
    estate = await make_estate(console)
    async with console.database.tenant(estate.tenant_id) as session:
        other = MailboxRow(tenant_id=estate.tenant_id, external_id="box2", address="x@y.example", domain="y.example")
        session.add(other)
        await session.flush()
        session.add(
            Click(
                tenant_id=estate.tenant_id,
                id=uuid.uuid4(),
                at=console.clock() - timedelta(minutes=1),
                mailbox_id=other.id,
                url="https://others.example/",
                host="others.example",
                level="clean",
                action="redirect",
            )
        )
    own = await console.signed_in(estate.tenant_id, Role.USER, subject="box")
    page = await own.page("/my-clicks")
    assert "secret.example" in page
    assert "others.example" not in page
    # The address alone proves nothing: it can be given to another account.
    namesake = await console.signed_in(estate.tenant_id, Role.USER, email="ada@nordwind.example", subject="new")
    assert "secret.example" not in await namesake.page("/my-clicks")


async def test_the_navigation_has_only_what_the_role_may_open(console: Console) -> None:
    estate = await make_estate(console)
    for role in Role:
        browser = await console.signed_in(estate.tenant_id, role)
        page = await browser.page("/my-clicks")
        for path in re.findall(r'<li><a href="([^"]+)" data-testid="nav-', page):
            assert (await browser.get(path)).status_code == 200, (role, path)
        assert ("nav-audit" in page) == (role in AUDIT)
        assert ("nav-overview" in page) == (role in VIEW)


async def test_buttons_are_shown_only_to_roles_that_may_press_them(console: Console) -> None:
    estate = await make_estate(console)
    for role in sorted(VIEW):
        browser = await console.signed_in(estate.tenant_id, role)
        message = await browser.page(f"/messages/{estate.objects['message_id']}")
        assert ("restore-message" in message) == (role in CONFIGURE)
        assert ('data-testid="pause"' in await browser.page("/connector")) == (role in CONFIGURE)
        assert ("entry-add" in await browser.page("/lists")) == (role in CONFIGURE)
        assert ("/role" in await browser.page("/people")) == (role in OWNER)
