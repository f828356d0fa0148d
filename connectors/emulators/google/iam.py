"""IAM Service Account Credentials API: signing as a service account without having its key.

https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts. The caller needs the
role Service Account Token Creator on the account, which every account has on itself here
(``ServiceAccount.token_creators``).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from connectors.emulators.google import mime
from connectors.emulators.google.accounts import ServiceAccount
from connectors.emulators.google.api import Call, Method, scopes
from connectors.emulators.google.errors import ApiError, forbidden, invalid, not_found

_SCOPES = scopes("cloud-platform", "iam")
_LONGEST = 12 * 3_600


def _account(call: Call, permission: str) -> ServiceAccount:
    account = call.state.accounts.service_account_of(call.path["account"])
    if account is None:
        raise not_found("Not found; Gaia id not found for email " + call.path["account"])
    if call.path["project"] not in ("-", account.project):
        raise not_found(f"Service account {call.path['account']} does not exist.")
    caller = call.grant.service_account
    if caller != account.email and caller not in account.token_creators:
        message = f"Permission '{permission}' denied on resource (or it may not exist)."
        raise forbidden(message, "IAM_PERMISSION_DENIED")
    return account


def sign_blob(call: Call) -> dict[str, Any]:
    """``signBlob``: RSASSA-PKCS1-v1_5 with SHA-256."""
    account = _account(call, "iam.serviceAccounts.signBlob")
    try:
        blob = mime.decode(str(call.body.get("payload") or ""))
    except ValueError:
        raise invalid("Invalid value at 'payload' (TYPE_BYTES), Base64 decoding failed") from None
    key = account.keys[0]
    return {"keyId": key.key_id, "signedBlob": base64.b64encode(key.sign_bytes(blob)).decode("ascii")}


def sign_jwt(call: Call) -> dict[str, Any]:
    """``signJwt``: ``exp`` is needed and at most 12 hours away."""
    account = _account(call, "iam.serviceAccounts.signJwt")
    try:
        claims = json.loads(str(call.body.get("payload") or ""))
        expires = float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        raise invalid("The payload is not a JSON claims set with exp.") from None
    now = call.state.real_time()
    if not now < expires <= now + _LONGEST + 60:
        raise invalid("exp must be in the future and at most 12 hours away.")
    key = account.keys[0]
    return {"keyId": key.key_id, "signedJwt": key.sign_jwt(claims)}


def generate_access_token(call: Call) -> dict[str, Any]:
    """``generateAccessToken``: a token of the service account itself, without a user."""
    account = _account(call, "iam.serviceAccounts.getAccessToken")
    wanted = call.strings("scope")
    if not wanted:
        raise invalid("Request is missing the required field: scope")
    text = str(call.body.get("lifetime") or "3600s")
    if not text.endswith("s") or not text[:-1].isdecimal() or not 0 < int(text[:-1]) <= 3_600:
        raise ApiError(400, "Invalid lifetime: up to 3600s.", "invalidArgument")
    lifetime = int(text[:-1])
    token = call.state.tokens.issue(
        subject=None,
        client=account.client_id,
        service_account=account.email,
        project=account.project,
        scopes=wanted,
        lifetime=lifetime,
    )
    expires = datetime.fromtimestamp(call.state.real_time() + lifetime, UTC)
    return {"accessToken": token, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}


def generate_id_token(call: Call) -> dict[str, Any]:
    """``generateIdToken``: an OIDC token of the service account."""
    account = _account(call, "iam.serviceAccounts.getOpenIdToken")
    audience = str(call.body.get("audience") or "")
    if not audience:
        raise invalid("Request is missing the required field: audience")
    now = int(call.state.real_time())
    claims: dict[str, Any] = {
        "iss": call.state.issuer,
        "aud": audience,
        "azp": account.client_id,
        "sub": account.client_id,
        "iat": now,
        "exp": now + 3_600,
    }
    if call.body.get("includeEmail"):
        claims.update(email=account.email, email_verified=True)
    return {"token": call.state.signing_key.sign_jwt(claims)}


_ACCOUNT = "/iam/v1/projects/{project}/serviceAccounts/{account}"
_ID = "iamcredentials.projects.serviceAccounts."

METHODS = (
    Method(
        _ID + "signBlob",
        "POST",
        _ACCOUNT + ":signBlob",
        _SCOPES,
        sign_blob,
        request=frozenset({"payload", "delegates"}),
    ),
    Method(
        _ID + "signJwt",
        "POST",
        _ACCOUNT + ":signJwt",
        _SCOPES,
        sign_jwt,
        request=frozenset({"payload", "delegates"}),
    ),
    Method(
        _ID + "generateAccessToken",
        "POST",
        _ACCOUNT + ":generateAccessToken",
        _SCOPES,
        generate_access_token,
        request=frozenset({"scope", "lifetime", "delegates"}),
    ),
    Method(
        _ID + "generateIdToken",
        "POST",
        _ACCOUNT + ":generateIdToken",
        _SCOPES,
        generate_id_token,
        request=frozenset({"audience", "includeEmail", "delegates"}),
    ),
)
