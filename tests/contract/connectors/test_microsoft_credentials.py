"""Sign-in, consent and our own credential, against an Entra ID whose clock is the real one."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from connectors.base.errors import ConnectorError, MisconfiguredClient, Unavailable
from connectors.base.types import CheckStatus, Provider
from connectors.emulators.microsoft.tokens import certificate_of
from connectors.emulators.testing import Emulators, running_emulators
from connectors.microsoft.assertion import client_authentication
from connectors.microsoft.config import ClientCertificate, ClientSecret, Credential, FederatedTokenFile
from connectors.microsoft.identity import MicrosoftIdentity
from tests.contract.connectors.harness import quick_http
from tests.contract.connectors.harness_microsoft import MicrosoftHarness

REDIRECT = "http://127.0.0.1:8080/sign-in/microsoft"
VERIFIER = "v" * 64
NONCE = "nonce-of-this-sign-in"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def real_time() -> Iterator[Emulators]:
    """Emulators whose clock nobody moves: assertions and id_tokens carry times."""
    with running_emulators(seed=3) as running:
        yield running


@pytest.fixture
async def microsoft(real_time: Emulators) -> AsyncIterator[MicrosoftHarness]:
    """A connected organisation."""
    made = MicrosoftHarness(real_time, next(_numbers))
    yield made
    made.clear()
    await made.aclose()


@pytest.fixture
async def identity(microsoft: MicrosoftHarness) -> AsyncIterator[MicrosoftIdentity]:
    """Sign-in with that organisation's Entra ID."""
    async with quick_http() as http:
        yield MicrosoftIdentity(microsoft.config(), http=http)


def challenge(verifier: str = VERIFIER) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


async def sign_in(identity: MicrosoftIdentity, person: str, nonce: str = NONCE) -> dict[str, str]:
    """What a browser does; returns the query that comes back to us."""
    url = await identity.sign_in_url(REDIRECT, "state-1", nonce, challenge())
    async with httpx.AsyncClient() as browser:
        page = await browser.get(url)
        assert page.status_code == 200
        answer = await browser.post(url, data={"person": person})
    assert answer.status_code == 302
    return {key: values[0] for key, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


# --- sign-in ----------------------------------------------------------------------------------------------


async def test_an_administrator_signs_in(identity: MicrosoftIdentity, microsoft: MicrosoftHarness) -> None:
    answer = await sign_in(identity, microsoft.ada.id)
    assert answer["state"] == "state-1"

    person = await identity.finish_sign_in(answer["code"], REDIRECT, VERIFIER, NONCE)

    assert person.provider is Provider.MICROSOFT
    assert person.external_tenant == microsoft.tenant.id
    assert (person.subject, person.email, person.name) == (microsoft.ada.id, microsoft.ada.address, "Ada")
    assert person.is_admin is True


async def test_a_user_signs_in_and_is_no_administrator(
    identity: MicrosoftIdentity, microsoft: MicrosoftHarness
) -> None:
    answer = await sign_in(identity, microsoft.ben.id)

    assert not (await identity.finish_sign_in(answer["code"], REDIRECT, VERIFIER, NONCE)).is_admin


async def test_a_code_works_once_and_with_its_own_verifier_and_nonce_only(
    identity: MicrosoftIdentity, microsoft: MicrosoftHarness
) -> None:
    used = (await sign_in(identity, microsoft.ada.id))["code"]
    await identity.finish_sign_in(used, REDIRECT, VERIFIER, NONCE)

    with pytest.raises(ConnectorError):
        await identity.finish_sign_in(used, REDIRECT, VERIFIER, NONCE)
    with pytest.raises(ConnectorError):
        code = (await sign_in(identity, microsoft.ada.id))["code"]
        await identity.finish_sign_in(code, REDIRECT, "w" * 64, NONCE)
    with pytest.raises(ConnectorError, match="nonce"):
        code = (await sign_in(identity, microsoft.ada.id))["code"]
        await identity.finish_sign_in(code, REDIRECT, VERIFIER, "another nonce")
    with pytest.raises(ConnectorError, match="nonce"):
        code = (await sign_in(identity, microsoft.ada.id))["code"]
        await identity.finish_sign_in(code, REDIRECT, VERIFIER, "")


async def test_a_wrong_secret_at_sign_in_is_our_own_fault(microsoft: MicrosoftHarness) -> None:
    async with quick_http() as http:
        identity = MicrosoftIdentity(microsoft.config(credential=ClientSecret("wrong")), http=http)
        code = (await sign_in(identity, microsoft.ada.id))["code"]
        with pytest.raises(MisconfiguredClient):
            await identity.finish_sign_in(code, REDIRECT, VERIFIER, NONCE)


async def test_an_unreachable_sign_in_service_is_unavailable(microsoft: MicrosoftHarness) -> None:
    async with quick_http() as http:
        identity = MicrosoftIdentity(microsoft.config(authority="http://127.0.0.1:9/entra"), http=http)
        with pytest.raises(Unavailable):
            await identity.sign_in_url(REDIRECT, "s", NONCE, challenge())


# --- forged tokens ----------------------------------------------------------------------------------------


class Forger:
    """Makes id_tokens for an identity, signed with the emulator's key or with another."""

    def __init__(self, identity: MicrosoftIdentity, microsoft: MicrosoftHarness) -> None:
        self.identity = identity
        self.key = RSAKey.import_key(microsoft.state.signing_key or "")
        self.kid = self.key.thumbprint()
        now = int(time.time())
        self.claims: dict[str, Any] = {
            "aud": microsoft.emulators.client_id,
            "iss": f"{microsoft.emulators.authority}/{microsoft.tenant.id}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3_600,
            "nonce": NONCE,
            "oid": microsoft.ada.id,
            "preferred_username": microsoft.ada.address,
            "sub": "pairwise",
            "tid": microsoft.tenant.id,
        }

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        """A token; None removes a claim."""
        claims = {name: value for name, value in {**self.claims, **changes}.items() if value is not None}
        head = {"alg": "RS256", "kid": self.kid, **(header or {})}
        return jwt.encode(head, claims, key or self.key, algorithms=["RS256", "PS256", "HS256"])

    async def accepted(self, token: str) -> bool:
        """Whether the identity accepts it."""
        try:
            await self.identity._validate(token, NONCE)
        except ConnectorError:
            return False
        return True


@pytest.fixture
def forger(identity: MicrosoftIdentity, microsoft: MicrosoftHarness) -> Forger:
    return Forger(identity, microsoft)


async def test_the_untouched_token_is_accepted(forger: Forger) -> None:
    assert await forger.accepted(forger.token())


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-application"},
        {"aud": None},
        {"iss": "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0"},
        {"iss": None},
        {"tid": "11111111-1111-1111-1111-111111111111"},
        {"tid": "{tenantid}"},
        {"tid": "../evil"},
        {"tid": None},
        {"exp": int(time.time()) - 3_600},
        {"exp": None},
        {"iat": int(time.time()) + 3_600},
        {"nbf": int(time.time()) + 3_600},
        {"nonce": "another"},
        {"nonce": None},
        {"oid": None},
    ],
    ids=[
        "aud of another",
        "no aud",
        "iss of another",
        "no iss",
        "tid of another",
        "tid a placeholder",
        "tid a path",
        "no tid",
        "exp passed",
        "no exp",
        "iat ahead",
        "nbf ahead",
        "nonce of another",
        "no nonce",
        "no oid",
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(forger: Forger, changes: dict[str, Any]) -> None:
    assert not await forger.accepted(forger.token(**changes))


async def test_a_token_of_another_key_is_refused(forger: Forger) -> None:
    other = RSAKey.generate_key(2048)

    assert not await forger.accepted(forger.token(key=other))
    assert not await forger.accepted(forger.token({"kid": other.thumbprint()}, other))


async def test_a_token_that_brings_its_own_key_is_refused(forger: Forger) -> None:
    other = RSAKey.generate_key(2048)
    public = other.as_dict(private=False)

    assert not await forger.accepted(forger.token({"jwk": public}, other))


async def test_the_public_key_is_no_shared_secret(forger: Forger) -> None:
    pem = forger.key.as_pem(private=False)

    assert not await forger.accepted(forger.token({"alg": "HS256"}, OctKey.import_key(pem.replace(b"-", b"."))))


async def test_an_unsigned_token_is_refused(forger: Forger) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": forger.kid}).encode()).decode().rstrip("=")
    body = forger.token().split(".")[1]

    assert not await forger.accepted(f"{head}.{body}.")


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "....", "e30.e30.e30", "é.é.é"])
async def test_what_is_no_token_is_refused(forger: Forger, token: str) -> None:
    assert not await forger.accepted(token)


async def test_a_changed_byte_breaks_the_signature(forger: Forger) -> None:
    head, body, tail = forger.token().split(".")
    changed = body[:-2] + ("A" if body[-2] != "A" else "B") + body[-1]

    assert not await forger.accepted(f"{head}.{changed}.{tail}")


async def test_the_keys_are_not_read_for_every_unknown_one(identity: MicrosoftIdentity, forger: Forger) -> None:
    await forger.accepted(forger.token())
    sent = identity._http.counters.sent

    for number in range(5):
        assert not await forger.accepted(forger.token({"kid": f"unknown-{number}"}))

    assert identity._http.counters.sent == sent


async def test_an_email_claim_alone_proves_nothing(identity: MicrosoftIdentity, forger: Forger) -> None:
    from connectors.microsoft.identity import _person

    claims = {**forger.claims, "email": "ceo@victim.example"}
    del claims["preferred_username"]

    assert _person(claims).email == ""
    assert _person({**claims, "xms_edov": True}).email == "ceo@victim.example"
    assert _person({**claims, "wids": ["9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3"]}).is_admin is False
    assert _person(claims).is_admin is None


# --- consent ----------------------------------------------------------------------------------------------


async def test_an_administrator_consents_and_all_checks_pass(
    identity: MicrosoftIdentity, microsoft: MicrosoftHarness
) -> None:
    microsoft.revoke()
    person = await identity.finish_sign_in(
        (await sign_in(identity, microsoft.ada.id))["code"], REDIRECT, VERIFIER, NONCE
    )
    asked = identity.consent(person.external_tenant, REDIRECT, "state-2")
    assert asked.returns
    assert "Mail-Advanced.ReadWrite.All" in asked.scopes

    async with httpx.AsyncClient(follow_redirects=False) as browser:
        chosen = await browser.post(asked.url, data={"person": microsoft.ada.id})
        page = await browser.get(chosen.headers["location"])
        proof = re.search(r'name="proof" value="([^"]+)"', page.text)
        assert proof is not None
        done = await browser.post(asked.url, data={"accept": "1", "proof": proof[1]})
    query = {key: values[0] for key, values in parse_qs(urlsplit(done.headers["location"]).query).items()}

    answer = identity.read_consent(query)
    assert (answer.granted, answer.external_tenant, query["state"]) == (True, microsoft.tenant.id, "state-2")
    checks = await microsoft.new_connector().check_access()
    told = {check.key: check.status for check in checks}
    assert told.pop("attachments") is CheckStatus.SKIPPED  # the first picture that is changed tells
    assert set(told.values()) == {CheckStatus.PASSED}


# --- credentials ------------------------------------------------------------------------------------------


def an_hour_ago() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


def make_certificate() -> tuple[bytes, bytes]:
    """A key with its certificate, and the certificate alone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "postern test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + public, public


async def test_a_certificate_is_accepted_from_bytes_and_from_a_file(
    microsoft: MicrosoftHarness, tmp_path: Path
) -> None:
    both, public = make_certificate()
    application = microsoft.state.applications[microsoft.emulators.client_id]
    application.certificates.append(certificate_of(public.decode()))
    file = tmp_path / "app.pem"
    file.write_bytes(both)

    for credential in (ClientCertificate(pem=both), ClientCertificate(path=str(file))):
        connector = microsoft.new_connector(credential=credential)
        assert (await connector.changes(microsoft.ada, None, an_hour_ago())).cursor


async def test_a_certificate_that_is_not_registered_is_our_own_fault(microsoft: MicrosoftHarness) -> None:
    both, _ = make_certificate()
    connector = microsoft.new_connector(credential=ClientCertificate(pem=both))

    with pytest.raises(MisconfiguredClient, match="700027"):
        await connector.changes(microsoft.ada, None, an_hour_ago())


@pytest.mark.parametrize("credential", [FederatedTokenFile("/nowhere"), ClientCertificate(path="/nowhere")])
async def test_a_credential_file_that_is_missing_is_our_own_fault(
    microsoft: MicrosoftHarness, credential: FederatedTokenFile | ClientCertificate
) -> None:
    connector = microsoft.new_connector(credential=credential)

    with pytest.raises(MisconfiguredClient):
        await connector.changes(microsoft.ada, None, an_hour_ago())


async def test_a_workloads_token_is_read_anew_each_time(microsoft: MicrosoftHarness, tmp_path: Path) -> None:
    both, public = make_certificate()
    application = microsoft.state.applications[microsoft.emulators.client_id]
    application.certificates.append(certificate_of(public.decode()))
    file = tmp_path / "token"

    # The emulator knows certificates only: a signed assertion stands for the platform's token.
    def issue() -> None:
        url = f"{microsoft.emulators.authority}/{microsoft.tenant.id}/oauth2/v2.0/token"
        signed = client_authentication(microsoft.config(credential=ClientCertificate(pem=both)), url)
        file.write_text(signed["client_assertion"])

    issue()
    connector = microsoft.new_connector(credential=FederatedTokenFile(str(file)))
    assert (await connector.changes(microsoft.ada, None, an_hour_ago())).cursor


@pytest.mark.parametrize("kind", ["certificate", "federated"])
async def test_signing_in_works_without_any_secret(microsoft: MicrosoftHarness, tmp_path: Path, kind: str) -> None:
    both, public = make_certificate()
    application = microsoft.state.applications[microsoft.emulators.client_id]
    application.certificates.append(certificate_of(public.decode()))
    credential: Credential = ClientCertificate(pem=both)
    if kind == "federated":
        url = f"{microsoft.emulators.authority}/organizations/oauth2/v2.0/token"
        signed = client_authentication(microsoft.config(credential=credential), url)
        (tmp_path / "token").write_text(signed["client_assertion"])
        credential = FederatedTokenFile(str(tmp_path / "token"))
    async with quick_http() as http:
        identity = MicrosoftIdentity(microsoft.config(credential=credential), http=http)
        code = (await sign_in(identity, microsoft.ada.id))["code"]

        person = await identity.finish_sign_in(code, REDIRECT, VERIFIER, NONCE)

    assert person.subject == microsoft.ada.id


async def test_a_certificate_that_cannot_be_read_stops_the_sign_in_by_name(microsoft: MicrosoftHarness) -> None:
    async with quick_http() as http:
        config = microsoft.config(credential=ClientCertificate(pem=b"no certificate"))
        identity = MicrosoftIdentity(config, http=http)
        code = (await sign_in(identity, microsoft.ada.id))["code"]
        with pytest.raises(MisconfiguredClient):
            await identity.finish_sign_in(code, REDIRECT, VERIFIER, NONCE)
