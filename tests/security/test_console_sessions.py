"""Sign-in, sessions and forms under attack: forged answers, replays, fixation, cross-site forms, hostile input."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.console.browser import cookie_name, open_flow, seal_flow
from app.kit.crypto import KeyRing
from app.tenants.actor import Role
from app.tenants.models import Session, User
from app.tenants.sessions import LIFETIME, cookie_value
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_a_sign_in_answer_in_another_browser_is_refused(console: Console) -> None:
    """Login CSRF: the victim's browser is led to the attacker's callback."""
    _, (ada,) = console.microsoft("ada")
    attacker, victim = console.browser(), console.browser()
    back = await attacker.at_microsoft(await attacker.to_provider("microsoft"), ada)
    answer = await victim.get(back)
    assert answer.status_code == 400
    assert 'data-code="state_missing"' in answer.text
    assert "session" not in str(answer.headers.get("set-cookie"))


async def test_a_sign_in_answer_works_once(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    kept = dict(browser.http.cookies)
    assert (await browser.get(back)).status_code == 303
    browser.http.cookies.update(kept)
    answer = await browser.get(back)
    assert 'data-code="state_replayed"' in answer.text


async def test_a_state_with_any_character_changed_is_refused(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    answer = await browser.get(back.replace("state=", "state=A"))
    assert 'data-code="state_mismatch"' in answer.text


async def test_an_answer_at_another_providers_callback_is_refused(console: Console) -> None:
    """Mix-up of authorization servers (RFC 9700 section 4.4)."""
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    answer = await browser.get(back.replace("/callback/microsoft", "/callback/google"))
    assert 'data-code="state_provider"' in answer.text


async def test_an_id_token_for_another_nonce_is_refused(console: Console, keyring: KeyRing) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    name = cookie_name(console.deps, "signin")
    flow = open_flow(keyring, "signin", browser.http.cookies[name], console.clock())
    assert flow is not None
    changed = type(flow)(**{**{f: getattr(flow, f) for f in flow.__slots__}, "nonce": "another"})
    browser.http.cookies.clear()
    browser.http.cookies.set(name, seal_flow(keyring, changed), domain="127.0.0.1")
    answer = await browser.get(back)
    assert answer.status_code == 502
    assert 'data-code="provider"' in answer.text


async def test_a_code_without_its_pkce_verifier_is_refused(console: Console, keyring: KeyRing) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    name = cookie_name(console.deps, "signin")
    flow = open_flow(keyring, "signin", browser.http.cookies[name], console.clock())
    assert flow is not None
    changed = type(flow)(**{**{f: getattr(flow, f) for f in flow.__slots__}, "verifier": "v" * 60})
    browser.http.cookies.clear()
    browser.http.cookies.set(name, seal_flow(keyring, changed), domain="127.0.0.1")
    assert (await browser.get(back)).status_code == 502


async def test_a_cancelled_sign_in_says_so_and_signs_nobody_in(console: Console) -> None:
    browser = console.browser()
    address = await browser.to_provider("microsoft")
    back = await browser.http.post(address, data={"cancel": "1"})
    answer = await browser.get(back.headers["location"])
    assert 'data-code="sign_in_denied"' in answer.text


async def test_a_session_cookie_planted_before_sign_in_is_not_the_session_after_it(console: Console) -> None:
    tenant_id = await console.make_tenant()
    _, (ada,) = console.microsoft("ada")
    attacker = await console.signed_in(tenant_id, Role.USER)
    name = cookie_name(console.deps, "session")
    planted = attacker.http.cookies[name]
    victim = console.browser()
    victim.http.cookies.set(name, planted, domain="127.0.0.1")
    await victim.get(await victim.at_microsoft(await victim.to_provider("microsoft"), ada))
    assert victim.http.cookies[name] != planted
    assert (await attacker.get("/my-clicks")).headers["location"].startswith("/?next="), "the planted one has ended"


async def test_the_session_cookie_is_kept_from_scripts_and_other_sites(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    cookies = (await browser.get(back)).headers.get_list("set-cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("postern-session="))
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert "Path=/" in session


def test_over_https_cookies_are_bound_to_the_host(tmp_path: Path, keyring: KeyRing) -> None:
    from fastapi.responses import Response

    from app.console.browser import set_session_cookie
    from app.console.deps import ConsoleDeps
    from app.settings import Settings

    settings = Settings(_env_file=None, data_dir=tmp_path, console_url="https://console.example")
    deps = ConsoleDeps(settings, None, keyring, None)
    response = Response()
    set_session_cookie(deps, response, "x")
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-postern-session=x;")
    assert "Secure" in cookie
    assert "Domain" not in cookie


async def test_only_a_hash_of_the_session_token_is_stored(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    token = browser.http.cookies["postern-session"].partition(".")[2]
    row = await console.only_tenant(ada.tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        stored = (await session.scalars(select(Session.token_hash))).one()
    assert token.encode() not in stored
    assert base64.urlsafe_b64decode(token + "==") not in stored
    assert len(stored) == 32


async def test_a_session_ends_after_its_lifetime(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    console.clock.offset = LIFETIME + timedelta(seconds=1)
    assert (await browser.get("/onboarding")).headers["location"].startswith("/?next=")


async def test_a_session_token_does_not_open_under_another_tenants_id(console: Console) -> None:
    mine, other = await console.make_tenant(), await console.make_tenant("Other")
    browser = await console.signed_in(mine, Role.OWNER)
    token = browser.http.cookies["postern-session"].partition(".")[2]
    thief = console.browser()
    thief.http.cookies.set("postern-session", cookie_value(other, token), domain="127.0.0.1")
    assert (await thief.get("/overview")).headers["location"].startswith("/?next=")


@pytest.mark.parametrize(
    "value", ["", ".", "x", "0" * 32, "0" * 32 + ".", "g" * 32 + "." + "t" * 43, "é.é", "a" * 5000]
)
async def test_a_nonsense_session_cookie_is_nobody(console: Console, value: str) -> None:
    browser = console.browser()
    header = f"postern-session={value}".encode()
    answer = await browser.get("/overview", headers={b"cookie": header})
    assert answer.status_code == 303


async def test_a_changed_role_counts_at_once(console: Console) -> None:
    tenant_id = await console.make_tenant()
    browser = await console.signed_in(tenant_id, Role.OPERATOR)
    assert (await browser.get("/overview")).status_code == 200
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(User))).one().role = Role.USER.value
    assert (await browser.get("/overview")).status_code == 403


async def test_a_form_without_or_with_another_sessions_token_changes_nothing(console: Console) -> None:
    tenant_id = await console.make_tenant()
    browser = await console.signed_in(tenant_id, Role.OWNER)
    other = await console.signed_in(tenant_id, Role.OWNER)
    for token in ("", "0" * 64, other.csrf, "é", browser.csrf[:-1]):
        answer = await browser.http.post("/settings/organisation", data={"csrf": token, "name": "Changed"})
        assert answer.status_code == 400
        assert 'data-code="csrf"' in answer.text
    assert "Changed" not in await browser.page("/settings")


async def test_a_form_sent_from_another_site_changes_nothing(console: Console) -> None:
    tenant_id = await console.make_tenant()
    browser = await console.signed_in(tenant_id, Role.OWNER)
    answer = await browser.post("/settings/organisation", {"name": "Changed"}, headers={"sec-fetch-site": "cross-site"})
    assert 'data-code="cross_site"' in answer.text


async def test_an_api_call_that_changes_something_needs_the_header(console: Console) -> None:
    tenant_id = await console.make_tenant()
    browser = await console.signed_in(tenant_id, Role.OWNER)
    answer = await browser.http.post("/api/v1/restores", json={"scope": "tenant"})
    assert (answer.status_code, answer.json()["code"]) == (400, "csrf")
    token = (await browser.get("/api/v1/session")).json()["csrf_token"]
    answer = await browser.http.post("/api/v1/restores", json={"scope": "tenant"}, headers={"x-csrf-token": token})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/x\r\nset-cookie:a=b",
        "javascript:x",
    ],
)
async def test_signing_in_never_goes_on_to_another_site(console: Console, following: str) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    started = await browser.get("/sign-in/microsoft", params={"next": following})
    back = await browser.at_microsoft(started.headers["location"], ada)
    assert (await browser.get(back)).headers["location"] == "/"
    landed = await console.browser().get("/", params={"next": following})
    assert "evil.example" not in landed.text


async def test_a_body_larger_than_any_form_is_refused(console: Console) -> None:
    tenant_id = await console.make_tenant()
    browser = await console.signed_in(tenant_id, Role.OWNER)
    answer = await browser.post("/settings/organisation", {"name": "x" * 100_000})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/messages?page=0",
        "/messages?page=99999999999",
        "/messages?days=x",
        "/messages?q=%00%ff",
        "/messages?open=abc",
        "/messages?sort=;drop",
        "/clicks?level=%00",
        "/clicks?q=%25_%5C",
        "/connector?page=-1",
        "/connector/restore?scope=mailbox&target=%00",
        "/connector/restore?scope=galaxy",
        "/connector/restore?scope=mailbox&target=99999999999999999999999",
        "/audit?q=" + "a" * 300,
        "/api/v1/messages?page=x",
        "/api/v1/messages/1e9",
        "/messages/99999999999999999999999999",
        "/messages/-1",
        "/messages/1%00",
    ],
)
async def test_odd_addresses_are_answered_in_words_and_never_with_an_error(console: Console, path: str) -> None:
    browser = await console.signed_in(await console.make_tenant(), Role.OWNER)
    answer = await browser.get(path)
    assert answer.status_code in (200, 400, 404, 422)


async def test_every_page_is_kept_from_frames_caches_and_foreign_content(console: Console) -> None:
    browser = await console.signed_in(await console.make_tenant(), Role.OWNER)
    for path in ("/overview", "/messages", "/clicks", "/settings", "/messages/1", "/nothing"):
        answer = await browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert " style=" not in answer.text
        assert "<script>" not in answer.text
        assert " onclick=" not in answer.text


async def test_an_error_page_says_nothing_of_the_inside(console: Console) -> None:
    browser = await console.signed_in(await console.make_tenant(), Role.OWNER)
    answer = await browser.http.post("/overview")
    assert answer.status_code == 405
    assert "Traceback" not in answer.text
