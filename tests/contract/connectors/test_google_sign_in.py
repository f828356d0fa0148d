"""Signing in with Google, and notifications' tokens, on the emulated Google."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.base.errors import ConnectorError, MisconfiguredClient, Transient, Unavailable
from connectors.base.http import SharedHttp
from connectors.base.protocol import IdentityProvider, NotificationReader
from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.google.keys import SigningKey
from connectors.emulators.testing import running_emulators
from connectors.google.config import SCOPE_MODIFY, SCOPE_USERS
from connectors.google.identity import GoogleIdentity
from connectors.google.jwks import KeyCache, TokenRefused, validate
from connectors.google.notifications import GoogleNotifications
from tests.contract.connectors.harness import QUICK, quick_http
from tests.contract.connectors.harness_google import (
    ADMIN,
    ANNA,
    AUDIENCE,
    DOMAIN,
    PUSH_ACCOUNT,
    REDIRECT,
    SUBSCRIPTION,
    GoogleWorld,
)

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def created() -> Iterator[GoogleWorld]:
    with running_emulators(seed=7) as emulators:
        yield GoogleWorld.create(emulators, delegated=False)


@contextlib.asynccontextmanager
async def identity(world: GoogleWorld, **changes: Any) -> AsyncIterator[GoogleIdentity]:
    async with quick_http() as http:
        yield GoogleIdentity(world.config(**changes), http=http)


async def browser(provider: GoogleIdentity, user: str, nonce: str = "n1", state: str = "s1") -> dict[str, str]:
    """A person chooses an account on Google's page; what the browser brings back."""
    url = await provider.sign_in_url(REDIRECT, state, nonce, CHALLENGE)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).status_code == 200
        answer = await client.post(url.partition("?")[0], data={**asked, "user": user})
    assert answer.status_code == 302
    location = urlsplit(answer.headers["location"])
    assert location.scheme + "://" + location.netloc + location.path == REDIRECT
    return {name: values[0] for name, values in parse_qs(location.query).items()}


async def test_an_administrator_signs_in_before_anything_is_delegated(world: GoogleWorld) -> None:
    async with identity(world) as provider:
        back = await browser(provider, ADMIN)
        assert back["state"] == "s1"
        person = await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")
        assert person.provider is Provider.GOOGLE
        assert person.external_tenant == DOMAIN
        assert person.email == ADMIN
        assert person.subject == world.state.user(ADMIN).id
        assert person.name == "Ada Admin"
        assert person.is_admin is None


async def test_once_it_is_delegated_the_directory_says_who_is_an_administrator(world: GoogleWorld) -> None:
    world.delegate()
    async with identity(world) as provider:
        for user, expected in ((ADMIN, True), (ANNA, False)):
            back = await browser(provider, user)
            person = await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")
            assert person.is_admin is expected


async def test_an_administrator_of_the_help_desk_is_not_taken_for_one_of_the_organisation(world: GoogleWorld) -> None:
    world.delegate()
    desk = f"desk@{DOMAIN}"
    world.state.create_user(NewUser(desk, "Help Desk", delegated_admin=True))
    async with identity(world) as provider:
        back = await browser(provider, desk)
        assert (await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")).is_admin is None


async def test_without_the_directory_s_scope_nothing_is_claimed_about_the_role(world: GoogleWorld) -> None:
    world.delegate(SCOPE_MODIFY)
    async with identity(world) as provider:
        back = await browser(provider, ADMIN)
        assert (await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")).is_admin is None


async def test_a_personal_account_belongs_to_no_organisation(world: GoogleWorld) -> None:
    world.state.create_user(NewUser("someone@consumer.example", "Some One"))
    async with identity(world) as provider:
        back = await browser(provider, "someone@consumer.example")
        person = await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")
        assert person.external_tenant == ""
        assert person.is_admin is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"nonce": "another"}, "another sign-in"),
        ({"nonce": ""}, "another sign-in"),
        ({"code_verifier": "w" * 64}, "used, expired or not ours"),
        ({"redirect_uri": "https://evil.example/"}, "refuse"),
        ({"code": "4/guessed"}, "used, expired or not ours"),
    ],
)
async def test_a_sign_in_that_was_tampered_with_is_refused(
    world: GoogleWorld, change: dict[str, str], why: str
) -> None:
    async with identity(world) as provider:
        back = await browser(provider, ADMIN)
        given = {"code": back["code"], "redirect_uri": REDIRECT, "code_verifier": VERIFIER, "nonce": "n1"}
        with pytest.raises(ConnectorError, match=why):
            await provider.finish_sign_in(**(given | change))


async def test_a_code_is_good_for_one_sign_in(world: GoogleWorld) -> None:
    async with identity(world) as provider:
        back = await browser(provider, ADMIN)
        await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")
        with pytest.raises(ConnectorError, match="used"):
            await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")


async def test_another_issuer_s_settings_are_not_taken(world: GoogleWorld) -> None:
    settings = f"{world.emulators.google_url}/.well-known/openid-configuration"
    async with identity(world, oidc_issuer="https://accounts.google.com", oidc_discovery=settings) as provider:
        with pytest.raises(MisconfiguredClient):
            await provider.sign_in_url(REDIRECT, "s", "n", CHALLENGE)


async def test_a_wrong_client_secret_is_our_fault(world: GoogleWorld) -> None:
    async with identity(world, oidc_client_secret="wrong") as provider:
        back = await browser(provider, ADMIN)
        with pytest.raises(MisconfiguredClient):
            await provider.finish_sign_in(back["code"], REDIRECT, VERIFIER, "n1")


async def test_an_outage_of_google_signs_nobody_in(world: GoogleWorld) -> None:
    async with identity(world) as provider:
        world.fail(FaultKind.TIMEOUT_BEFORE, "openid-configuration", limit=None)
        with pytest.raises(Transient):
            await provider.sign_in_url(REDIRECT, "s", "n", CHALLENGE)


async def test_consent_is_given_in_the_admin_console_and_never_comes_back(world: GoogleWorld) -> None:
    async with identity(world) as provider:
        as_protocol: IdentityProvider = provider
        consent = as_protocol.consent(DOMAIN, REDIRECT, "state")
        assert not consent.returns
        assert consent.client_id == world.key["client_id"]
        assert consent.scopes == (SCOPE_MODIFY, SCOPE_USERS)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(consent.url)).status_code == 200
        for query in ({}, {"admin_consent": "True"}, {"error": "denied", "admin_consent": "True"}):
            assert not as_protocol.read_consent(query).granted
        assert as_protocol.read_consent({"error": "denied"}).error == "denied"


# --- the bearer token of a push


BODY = json.dumps(
    {
        "subscription": SUBSCRIPTION,
        "message": {
            "data": base64.b64encode(json.dumps({"emailAddress": ANNA, "historyId": 7}).encode()).decode(),
            "messageId": "1",
        },
    }
).encode()


def claims(world: GoogleWorld, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": world.emulators.google_url,
        "aud": AUDIENCE,
        "azp": "113774264463038321964",
        "sub": "113774264463038321964",
        "email": PUSH_ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


@contextlib.asynccontextmanager
async def reader(world: GoogleWorld, **changes: Any) -> AsyncIterator[GoogleNotifications]:
    async with SharedHttp(QUICK) as http:
        yield GoogleNotifications(world.config(**changes), http=http)


def signed(world: GoogleWorld, key: SigningKey | None = None, **changes: Any) -> dict[str, str]:
    token = (key or world.state.signing_key).sign_jwt(claims(world, **changes))
    return {"Authorization": f"Bearer {token}"}


async def test_a_push_with_google_s_token_is_read(world: GoogleWorld) -> None:
    async with reader(world) as notifications:
        as_protocol: NotificationReader = notifications
        assert as_protocol.handshake({"validationToken": "x"}) is None
        [hint] = await as_protocol.read(signed(world), BODY)
        assert hint.subscription_id == ANNA
        issuer_without_scheme = signed(world, iss=world.emulators.google_url.removeprefix("https://"))
        assert await as_protocol.read(issuer_without_scheme, BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"aud": "https://other.example/hooks/google"},
        {"aud": [AUDIENCE, "https://other.example"]},
        {"aud": None},
        {"email": "other@postern-test.iam.gserviceaccount.com"},
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"sub": None},
    ],
    ids=str,
)
async def test_a_token_with_one_wrong_claim_is_refused(world: GoogleWorld, change: dict[str, Any]) -> None:
    async with reader(world) as notifications:
        with pytest.raises(PermissionError):
            await notifications.read(signed(world, **change), BODY)


def unsigned(world: GoogleWorld) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims(world))}."


async def test_a_token_that_google_did_not_sign_is_refused(world: GoogleWorld) -> None:
    forged = SigningKey.generate()
    same_name = SigningKey(forged.pem, world.state.signing_key.key_id)
    good = signed(world)["Authorization"]
    flipped = good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:]
    async with reader(world) as notifications:
        for headers in (
            {},
            {"authorization": "Bearer "},
            {"authorization": good.replace("Bearer", "Basic")},
            {"authorization": "Bearer x.y.z"},
            {"authorization": "Bearer " + "a" * 20_000},
            {"authorization": "Bearer ä.ö.ü"},
            {"authorization": f"Bearer {unsigned(world)}"},
            {"authorization": flipped},
            signed(world, forged),
            signed(world, same_name),
        ):
            with pytest.raises(PermissionError):
                await notifications.read(headers, BODY)


async def test_a_token_is_verified_once_and_believed_until_its_end(world: GoogleWorld) -> None:
    start = time.time()
    passed = 0.0
    async with SharedHttp(QUICK) as http:
        notifications = GoogleNotifications(world.config(), http=http, now=lambda: start + passed)
        headers = signed(world)
        await notifications.read(headers, BODY)
        world.fail(FaultKind.UNAVAILABLE, "/oauth2/v3/certs", limit=None)
        notifications._keys = KeyCache(world.config().certs_url, http)  # which knows no key and can get none

        assert await notifications.read(headers, BODY)
        with pytest.raises(Transient):
            await notifications.read(signed(world, iat=int(start) - 1), BODY)
        passed = 3_700.0
        with pytest.raises(Transient):
            await notifications.read(headers, BODY)


async def test_a_refused_token_is_not_remembered_as_good(world: GoogleWorld) -> None:
    async with reader(world) as notifications:
        headers = signed(world, email="other@postern-test.iam.gserviceaccount.com")
        for _ in range(2):
            with pytest.raises(PermissionError):
                await notifications.read(headers, BODY)


async def test_an_oversized_push_is_refused_before_anything_else(world: GoogleWorld) -> None:
    async with reader(world) as notifications:
        with pytest.raises(ValueError, match="larger"):
            await notifications.read({}, b"x" * 65_537)


async def test_without_a_configured_sender_every_push_is_refused(world: GoogleWorld) -> None:
    for change in ({"push_service_account": ""}, {"push_audience": ""}):
        async with reader(world, **change) as notifications:
            with pytest.raises(PermissionError):
                await notifications.read(signed(world), BODY)


async def test_forged_key_names_do_not_make_us_fetch_the_keys_each_time(world: GoogleWorld) -> None:
    forged = SigningKey.generate()
    async with SharedHttp(QUICK) as http:
        notifications = GoogleNotifications(world.config(), http=http)
        await notifications.read(signed(world), BODY)
        for _ in range(20):
            with pytest.raises(PermissionError):
                await notifications.read(signed(world, forged), BODY)
        assert http.counters.sent == 1


async def test_a_rotated_key_is_fetched_and_the_old_ones_outlive_an_outage(world: GoogleWorld) -> None:
    seconds = 0.0
    async with SharedHttp(QUICK) as http:
        keys = KeyCache(world.config().certs_url, http, clock=lambda: seconds)
        check = {"issuers": (world.emulators.google_url,), "audience": AUDIENCE}
        old = signed(world)["Authorization"].removeprefix("Bearer ")
        await validate(old, keys, **check)  # type: ignore[arg-type]  # two keyword arguments of their types
        world.state.signing_key = SigningKey.generate()
        new = signed(world)["Authorization"].removeprefix("Bearer ")
        seconds += 31
        await validate(new, keys, **check)  # type: ignore[arg-type]
        with pytest.raises(TokenRefused):
            await validate(old, keys, **check)  # type: ignore[arg-type]
        world.fail(FaultKind.UNAVAILABLE, "/oauth2/v3/certs", limit=None)
        seconds += 100_000
        await validate(new, keys, **check)  # type: ignore[arg-type]


async def test_without_keys_a_push_is_neither_believed_nor_refused(world: GoogleWorld) -> None:
    world.fail(FaultKind.UNAVAILABLE, "/oauth2/v3/certs", limit=None)
    async with reader(world) as notifications:
        with pytest.raises((Unavailable, Transient)):
            await notifications.read(signed(world), BODY)
