"""Client assertions: an application proves itself by a certificate or by the token of a workload.

Documents: "Certificate credentials for application authentication"
(https://learn.microsoft.com/entra/identity-platform/certificate-credentials), "Workload identity federation"
(https://learn.microsoft.com/entra/workload-id/workload-identity-federation), "Microsoft Entra authentication and
authorization error codes" (https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from connectors.emulators.microsoft.model import Application, Certificate, FederatedCredential
from connectors.emulators.microsoft.tokens import TokenRefused


@dataclass(frozen=True, slots=True)
class _Assertion:
    header: Mapping[str, object]
    claims: Mapping[str, object]
    signed: bytes
    signature: bytes


def check_assertion(text: str, application: Application, audiences: tuple[str, ...]) -> None:
    """Check a client assertion.

    One that names a certificate has to be made by the application itself; any other is the token of a
    workload and has to match a federated credential in issuer, subject and audience.

    Args:
        audiences: Addresses of the token endpoint that may be meant, compared without their scheme.

    Raises:
        TokenRefused: Nothing that is registered made this, or it is expired or meant for another.
    """
    assertion = _split(text)
    if "x5t" in assertion.header or "x5t#S256" in assertion.header:
        _check_certificate(assertion, application, audiences)
    else:
        _check_federated(assertion, application)
    if float(str(assertion.claims.get("exp", 0))) <= time.time():
        raise TokenRefused("AADSTS700024: Client assertion is not within its valid time range.")


def _check_certificate(assertion: _Assertion, application: Application, audiences: tuple[str, ...]) -> None:
    certificate = _certificate(application, assertion.header)
    if certificate is None:
        raise TokenRefused("AADSTS700027: The certificate with this identifier is not registered on application.")
    _verify(assertion, x509.load_pem_x509_certificate(certificate.pem.encode()).public_key())
    claims = assertion.claims
    if claims.get("iss") != application.client_id or claims.get("sub") != application.client_id:
        raise TokenRefused("AADSTS700021: Client assertion application identifier doesn't match 'client_id'.")
    if _without_scheme(str(claims.get("aud", ""))) not in {_without_scheme(each) for each in audiences}:
        raise TokenRefused("AADSTS700023: Client assertion audience claim does not match.")


def _check_federated(assertion: _Assertion, application: Application) -> None:
    claims = assertion.claims
    given = claims.get("aud")
    named = [str(each) for each in given] if isinstance(given, list) else [str(given)]
    candidates: list[FederatedCredential] = [each for each in application.federated if each.issuer == claims.get("iss")]
    if not candidates:
        raise TokenRefused("AADSTS700211: No matching federated identity record found for presented assertion issuer.")
    candidates = [each for each in candidates if each.subject == claims.get("sub")]
    if not candidates:
        raise TokenRefused("AADSTS700213: No matching federated identity record found for presented assertion subject.")
    candidates = [each for each in candidates if each.audience in named]
    if not candidates:
        raise TokenRefused(
            "AADSTS700212: No matching federated identity record found for presented assertion audience."
        )
    _verify(assertion, load_pem_public_key(candidates[0].public_key.encode()))


def _verify(assertion: _Assertion, public: object) -> None:
    digest = hashes.SHA256()
    paddings: dict[object, padding.AsymmetricPadding] = {
        "RS256": padding.PKCS1v15(),
        "PS256": padding.PSS(padding.MGF1(digest), digest.digest_size),
    }
    how = paddings.get(assertion.header.get("alg"))
    if how is None or not isinstance(public, rsa.RSAPublicKey):
        raise TokenRefused("AADSTS700027: Client assertion failed signature validation.")
    try:
        public.verify(assertion.signature, assertion.signed, how, digest)
    except InvalidSignature as error:
        raise TokenRefused("AADSTS700027: Client assertion failed signature validation.") from error


def _split(text: str) -> _Assertion:
    """Header, claims, what was signed, and the signature.

    azure-identity pads its base64url with ``=``, which RFC 7515 section 2 does not allow and Entra ID accepts; what
    was signed is the text as it came.

    Raises:
        TokenRefused: It is not a signed token.
    """
    try:
        head, body, tail = text.split(".")
        parts = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (head, body, tail)]
        header, claims = json.loads(parts[0]), json.loads(parts[1])
    except ValueError as error:
        raise TokenRefused("AADSTS50027: JWT token is invalid or malformed.") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise TokenRefused("AADSTS50027: JWT token is invalid or malformed.")
    return _Assertion(header, claims, f"{head}.{body}".encode(), parts[2])


def _certificate(application: Application, header: Mapping[str, object]) -> Certificate | None:
    def as_hex(value: object) -> str:
        text = str(value or "")
        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
        except (binascii.Error, ValueError):
            return ""

    sha1, sha256 = as_hex(header.get("x5t")), as_hex(header.get("x5t#S256"))
    for certificate in application.certificates:
        if certificate.thumbprint_sha1 == sha1 or certificate.thumbprint_sha256 == sha256:
            return certificate
    return None


def _without_scheme(address: str) -> str:
    return address.partition("://")[2].rstrip("/")
