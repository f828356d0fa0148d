from __future__ import annotations

import base64
import hashlib
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from connectors.emulators.microsoft.model import GLOBAL_ADMINISTRATOR, FederatedCredential, Person, Tenant
from connectors.emulators.microsoft.tokens import certificate_of
from connectors.emulators.testing import Emulators

REDIRECT = "http://127.0.0.1:9/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPE = "https://graph.microsoft.com/.default"


@pytest.fixture
def tenant(emulators: Emulators) -> tuple[Tenant, Person, Person]:
    made, (ada, ben) = emulators.microsoft_tenant("ada", "ben", consent=False)
    return made, ada, ben


def authorize_query(emulators: Emulators, **more: str | None) -> dict[str, str]:
    query: dict[str, str | None] = {
        "client_id": emulators.client_id,
        "response_type": "code",
        "redirect_uri": REDIRECT,
        "scope": "openid profile email",
        "state": "st4te",
        "nonce": "n0nce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **more,
    }
    return {name: value for name, value in query.items() if value is not None}


def answer_of(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 302, response.text
    assert response.headers["location"].startswith(REDIRECT)
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}


def sign_in(emulators: Emulators, client: httpx.Client, person: Person, at: str = "organizations") -> dict[str, str]:
    url = f"{emulators.authority}/{at}/oauth2/v2.0/authorize"
    return answer_of(client.post(url, params=authorize_query(emulators), data={"person": person.id}))


def redeem(emulators: Emulators, client: httpx.Client, code: str, **more: str) -> httpx.Response:
    data = {
        "grant_type": "authorization_code",
        "client_id": emulators.client_id,
        "client_secret": emulators.client_secret,
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        **more,
    }
    return client.post(f"{emulators.authority}/organizations/oauth2/v2.0/token", data=data)


def app_token(emulators: Emulators, client: httpx.Client, tenant: Tenant, **more: str) -> httpx.Response:
    data = {
        "grant_type": "client_credentials",
        "client_id": emulators.client_id,
        "client_secret": emulators.client_secret,
        "scope": SCOPE,
        **more,
    }
    return client.post(f"{emulators.authority}/{tenant.id}/oauth2/v2.0/token", data=data)


def claims_of(emulators: Emulators, client: httpx.Client, tenant: str, token: str) -> dict[str, Any]:
    metadata = client.get(f"{emulators.authority}/{tenant}/v2.0/.well-known/openid-configuration").json()
    keys = KeySet.import_key_set(client.get(metadata["jwks_uri"]).json())
    return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)


def test_signing_in_gives_an_id_token_that_the_published_keys_verify(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, _ = tenant
    answer = sign_in(emulators, client, ada)
    assert answer["state"] == "st4te"
    tokens = redeem(emulators, client, answer["code"]).json()
    claims = claims_of(emulators, client, made.id, tokens["id_token"])
    assert claims["iss"] == f"{emulators.authority}/{made.id}/v2.0"
    assert claims["aud"] == emulators.client_id
    assert claims["nonce"] == "n0nce"
    assert (claims["tid"], claims["oid"]) == (made.id, ada.id)
    assert claims["preferred_username"] == claims["email"] == ada.address
    assert claims["wids"] == [GLOBAL_ADMINISTRATOR]


def test_the_metadata_of_a_tenant_names_its_issuer_and_the_shared_one_a_template(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, _, _ = tenant
    at = "v2.0/.well-known/openid-configuration"
    own = client.get(f"{emulators.authority}/{made.domains[0]}/{at}").json()
    assert own["issuer"] == f"{emulators.authority}/{made.id}/v2.0"
    assert own["code_challenge_methods_supported"] == ["S256"]
    shared = client.get(f"{emulators.authority}/organizations/{at}").json()
    assert shared["issuer"] == f"{emulators.authority}/{{tenantid}}/v2.0"
    assert client.get(f"{emulators.authority}/{uuid.uuid4()}/{at}").json()["error_codes"] == [90002]


def test_the_sign_in_page_lists_the_tenants_people_and_nobody_else(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, ben = tenant
    _, (zoe,) = emulators.microsoft_tenant("zoe", domain="other.example")
    url = f"{emulators.authority}/{made.id}/oauth2/v2.0/authorize"
    page = client.get(url, params=authorize_query(emulators))
    assert set(re.findall(r'data-address="([^"]+)"', page.text)) == {ada.address, ben.address}
    refused = client.post(url, params=authorize_query(emulators), data={"person": zoe.id})
    assert refused.status_code == 400


def test_a_person_without_directory_roles_has_no_wids(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, _, ben = tenant
    tokens = redeem(emulators, client, sign_in(emulators, client, ben)["code"]).json()
    assert "wids" not in claims_of(emulators, client, made.id, tokens["id_token"])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"nonce": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
    ],
)
def test_a_sign_in_without_nonce_or_s256_goes_back_with_an_error(
    emulators: Emulators, client: httpx.Client, wrong: dict[str, str | None], error: str
) -> None:
    url = f"{emulators.authority}/organizations/oauth2/v2.0/authorize"
    answer = answer_of(client.get(url, params=authorize_query(emulators, **wrong)))
    assert (answer["error"], answer["state"]) == (error, "st4te")
    assert "code" not in answer


@pytest.mark.parametrize("wrong", [{"client_id": "unknown"}, {"redirect_uri": "https://evil.example/"}])
def test_an_unknown_client_or_address_is_never_redirected_to(
    emulators: Emulators, client: httpx.Client, wrong: dict[str, str | None]
) -> None:
    url = f"{emulators.authority}/organizations/oauth2/v2.0/authorize"
    assert client.get(url, params=authorize_query(emulators, **wrong)).status_code == 400


def test_a_code_works_once_and_only_with_its_verifier_and_address(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    _, ada, _ = tenant
    code = sign_in(emulators, client, ada)["code"]
    assert redeem(emulators, client, code).status_code == 200
    assert redeem(emulators, client, code).json()["error"] == "invalid_grant"
    code = sign_in(emulators, client, ada)["code"]
    assert redeem(emulators, client, code, code_verifier="w" * 64).json()["error"] == "invalid_grant"
    code = sign_in(emulators, client, ada)["code"]
    assert redeem(emulators, client, code, redirect_uri=f"{REDIRECT}2").json()["error"] == "invalid_grant"
    code = sign_in(emulators, client, ada)["code"]
    emulators.world.clock.advance(601)
    assert redeem(emulators, client, code).json()["error"] == "invalid_grant"


def test_there_is_no_app_token_before_consent_and_none_after_revocation(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, _, _ = tenant
    before = app_token(emulators, client, made)
    assert before.status_code == 400
    assert before.json()["error_codes"] == [7000229]
    emulators.world.microsoft.grant(made.id, emulators.client_id, ["Mail.ReadWrite"])
    token = app_token(emulators, client, made).json()["access_token"]
    claims = claims_of(emulators, client, made.id, token)
    assert (claims["roles"], claims["tid"], claims["idtyp"]) == (["Mail.ReadWrite"], made.id, "app")
    control = f"{emulators.base_url}/control/microsoft"
    client.post(f"{control}/revoke", json={"tenant": made.id, "how": "disable"})
    assert app_token(emulators, client, made).json()["error_codes"] == [7000112]
    client.post(f"{control}/revoke", json={"tenant": made.id})
    client.patch(control, json={"revoked_error": 700016})
    assert app_token(emulators, client, made).json()["error_codes"] == [700016]


def test_signing_in_makes_a_service_principal_whose_tokens_have_no_roles(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, _ = tenant
    sign_in(emulators, client, ada)
    token = app_token(emulators, client, made).json()["access_token"]
    assert "roles" not in claims_of(emulators, client, made.id, token)
    answer = client.get(f"{emulators.graph_url}/users/{ada.id}/messages", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403


def test_a_wrong_secret_is_our_fault_and_says_so(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    answer = app_token(emulators, client, tenant[0], client_secret="wrong")
    assert (answer.status_code, answer.json()["error"], answer.json()["error_codes"]) == (
        401,
        "invalid_client",
        [7000215],
    )


def made_certificate() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def test_a_certificate_assertion_is_accepted_and_a_foreign_expired_or_misaddressed_one_is_not(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, _, _ = tenant
    emulators.world.microsoft.grant(made.id, emulators.client_id, ["Mail.ReadWrite"])
    key, certificate = made_certificate()
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    emulators.world.microsoft.applications[emulators.client_id].certificates.append(certificate_of(pem))
    url = f"{emulators.authority}/{made.id}/oauth2/v2.0/token"

    def ask(signer: rsa.RSAPrivateKey, audience: str = url, seconds: int = 300) -> httpx.Response:
        thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": emulators.client_id,
            "sub": emulators.client_id,
            "jti": str(uuid.uuid4()),
            "nbf": now - 10,
            "exp": now + seconds,
        }
        assertion = jwt.encode({"alg": "RS256", "x5t#S256": thumbprint}, claims, RSAKey.import_key(signer))
        data = {
            "grant_type": "client_credentials",
            "client_id": emulators.client_id,
            "scope": SCOPE,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        return client.post(url, data=data)

    assert ask(key).status_code == 200
    assert ask(rsa.generate_private_key(public_exponent=65537, key_size=2048)).json()["error_codes"] == [700027]
    assert ask(key, audience="http://127.0.0.1/other").json()["error_codes"] == [700023]
    assert ask(key, seconds=-1).json()["error_codes"] == [700024]


def test_a_workloads_token_is_accepted_where_issuer_subject_and_audience_match(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, _, _ = tenant
    emulators.world.microsoft.grant(made.id, emulators.client_id, ["Mail.ReadWrite"])
    key, certificate = made_certificate()
    public = certificate.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    issuer, subject = "https://cluster.example", "system:serviceaccount:postern:worker"
    emulators.world.microsoft.applications[emulators.client_id].federated.append(
        FederatedCredential(issuer, subject, public.decode())
    )

    def ask(**more: object) -> int | None:
        claims = {
            "iss": issuer,
            "sub": subject,
            "aud": ["api://AzureADTokenExchange"],
            "exp": int(time.time()) + 300,
            **more,
        }
        assertion = jwt.encode({"alg": "RS256", "kid": "k"}, claims, RSAKey.import_key(key))
        data = {
            "grant_type": "client_credentials",
            "client_id": emulators.client_id,
            "scope": SCOPE,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        answer = client.post(f"{emulators.authority}/{made.id}/oauth2/v2.0/token", data=data)
        return None if answer.status_code == 200 else int(answer.json()["error_codes"][0])

    assert ask() is None
    assert ask(iss="https://other.example") == 700211
    assert ask(sub="system:serviceaccount:other:worker") == 700213
    assert ask(aud="api://other") == 700212
    assert ask(exp=int(time.time()) - 1) == 700024


def consent_url(emulators: Emulators, at: str) -> str:
    return f"{emulators.authority}/{at}/v2.0/adminconsent"


def consent_query(emulators: Emulators) -> dict[str, str]:
    return {"client_id": emulators.client_id, "scope": SCOPE, "redirect_uri": REDIRECT, "state": "st4te"}


def decide(emulators: Emulators, client: httpx.Client, person: Person, button: str) -> dict[str, str]:
    url, query = consent_url(emulators, person.tenant_id), consent_query(emulators)
    chosen = client.post(url, params=query, data={"person": person.id})
    assert chosen.status_code == 303
    page = client.get(chosen.headers["location"])
    proof = re.search(r'name="proof" value="(\w+)"', page.text)
    assert proof is not None
    return answer_of(client.post(url, params=query, data={"proof": proof[1], button: "1"}))


def test_accepting_grants_the_roles_of_the_registration(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, _ = tenant
    answer = decide(emulators, client, ada, "accept")
    assert answer == {"admin_consent": "True", "tenant": made.id, "scope": SCOPE, "state": "st4te"}
    token = app_token(emulators, client, made).json()["access_token"]
    roles = claims_of(emulators, client, made.id, token)["roles"]
    assert roles == sorted(["Mail.ReadWrite", "Mail-Advanced.ReadWrite.All", "User.Read.All"])


def test_an_error_answer_carries_admin_consent_true_as_well(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, ben = tenant
    cancelled = decide(emulators, client, ada, "cancel")
    assert (cancelled["error"], cancelled["admin_consent"], cancelled["state"]) == ("access_denied", "True", "st4te")
    refused = decide(emulators, client, ben, "accept")
    assert (refused["error"], refused["admin_consent"]) == ("access_denied", "True")
    assert emulators.client_id not in made.grants


def test_consent_cannot_be_posted_from_elsewhere(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, _ = tenant
    url, query = consent_url(emulators, made.id), consent_query(emulators)
    client.post(url, params=query, data={"person": ada.id})
    assert client.post(url, params=query, data={"accept": "1", "proof": "0" * 64}).status_code == 400
    assert emulators.client_id not in made.grants


def test_signing_out_forgets_who_was_there(
    emulators: Emulators, client: httpx.Client, tenant: tuple[Tenant, Person, Person]
) -> None:
    made, ada, _ = tenant
    sign_in(emulators, client, ada)
    url, query = consent_url(emulators, made.id), consent_query(emulators)
    assert "Permissions requested" in client.get(url, params=query).text
    client.get(f"{emulators.authority}/common/oauth2/v2.0/logout")
    assert "Pick an account" in client.get(url, params=query).text
