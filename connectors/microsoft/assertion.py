"""How our application proves itself when it exchanges a sign-in code, without any Microsoft SDK.

Sources: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow (client authentication),
https://learn.microsoft.com/entra/identity-platform/certificate-credentials, RFC 7523.
"""

from __future__ import annotations

import base64
import secrets
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey

from connectors.base.errors import MisconfiguredClient
from connectors.microsoft.config import (
    ClientCertificate,
    ClientSecret,
    FederatedTokenFile,
    MicrosoftConfig,
)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 300


def client_authentication(config: MicrosoftConfig, token_url: str) -> dict[str, str]:
    """Form fields with which the application proves itself when it exchanges a sign-in code.

    Args:
        config: Whose credential.
        token_url: Audience of a signed assertion.

    Raises:
        MisconfiguredClient: The certificate or token file cannot be read.
    """
    credential = config.credential
    if isinstance(credential, ClientSecret):
        return {"client_secret": credential.value}
    try:
        if isinstance(credential, FederatedTokenFile):
            with open(credential.path, encoding="ascii") as file:
                assertion = file.read().strip()
        else:
            assertion = _signed_assertion(config.client_id, credential, token_url)
    except (OSError, ValueError, TypeError) as error:
        raise MisconfiguredClient(f"Our own credential cannot be used: {type(error).__name__}.") from error
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def _signed_assertion(client_id: str, certificate: ClientCertificate, audience: str) -> str:
    pem = certificate.read()
    password = certificate.password.encode() or None
    thumbprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    key = load_pem_private_key(pem, password)
    header = {
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": base64.urlsafe_b64encode(thumbprint).decode().rstrip("="),
    }
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": secrets.token_urlsafe(16),
        "nbf": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    return jwt.encode(header, claims, RSAKey.import_key(key), algorithms=["PS256"])  # type: ignore[arg-type]  # joserfc takes cryptography's key objects, its annotation does not say so
