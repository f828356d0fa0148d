"""Keys and tokens of the emulated Entra ID.

Documents: "ID token claims reference" (https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference),
"Access token claims reference" (https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference),
"Certificate credentials for application authentication"
(https://learn.microsoft.com/entra/identity-platform/certificate-credentials).
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from connectors.emulators.microsoft.model import GLOBAL_ADMINISTRATOR, Application, Certificate, Person, Tenant
from connectors.emulators.microsoft.state import MicrosoftState

GRAPH_AUDIENCE = "https://graph.microsoft.com"
TOKEN_SECONDS = 3599


class TokenRefused(Exception):
    """A token or assertion is not valid; the text says why."""


class Tokens:
    """Issues and checks tokens with one RSA key that is kept with the state.

    Their times are real ones, not the emulated clock's: clients check them by their own clock.
    """

    def __init__(self, state: MicrosoftState) -> None:
        self._state = state
        with state.lock:
            if state.signing_key is None:
                state.signing_key = new_key()
                state.mark("signing_key", "current")
            self._key = _read_key(state.signing_key)
        self._kid = self._key.thumbprint()
        self._checked: dict[str, dict[str, object]] = {}

    def jwks(self) -> dict[str, object]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        public = {**self._key.as_dict(private=False), "kid": self._kid, "use": "sig", "alg": "RS256"}
        return {"keys": [public]}

    def app_token(
        self, tenant: Tenant, application: Application, roles: list[str], seconds: int = TOKEN_SECONDS
    ) -> str:
        """An access token for Graph without a user; no ``roles`` claim where there are none.

        Args:
            seconds: How long it is valid; a negative number makes one that has expired.
        """
        now = int(time.time())
        # The service principal's object id: one per tenant and application, and always the same.
        oid = str(uuid.uuid5(uuid.UUID(tenant.id), application.client_id))
        claims: dict[str, object] = {
            "aud": GRAPH_AUDIENCE,
            "iss": f"https://sts.windows.net/{tenant.id}/",
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "app_displayname": application.name,
            "appid": application.client_id,
            "idtyp": "app",
            "oid": oid,
            "sub": oid,
            "tid": tenant.id,
            "ver": "1.0",
        }
        if roles:
            claims["roles"] = roles
        return self._sign(claims)

    def id_token(self, issuer: str, person: Person, client_id: str, nonce: str) -> str:
        """An id_token for a signed-in person; ``wids`` names the directory roles."""
        now = int(time.time())
        pairwise = hashlib.sha256(f"{client_id}/{person.id}".encode()).hexdigest()[:43]
        claims: dict[str, object] = {
            "aud": client_id,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "email": person.address,
            "name": person.name,
            "nonce": nonce,
            "oid": person.id,
            "preferred_username": person.address,
            "sub": pairwise,
            "tid": person.tenant_id,
            "ver": "2.0",
        }
        if person.is_admin:
            claims["wids"] = [GLOBAL_ADMINISTRATOR]
        return self._sign(claims)

    def user_token(self, tenant_id: str, person: Person, client_id: str) -> str:
        """An access token with no more than the sign-in scopes."""
        now = int(time.time())
        return self._sign(
            {
                "aud": GRAPH_AUDIENCE,
                "iss": f"https://sts.windows.net/{tenant_id}/",
                "iat": now,
                "nbf": now,
                "exp": now + TOKEN_SECONDS,
                "appid": client_id,
                "idtyp": "user",
                "oid": person.id,
                "scp": "openid profile email",
                "tid": tenant_id,
                "ver": "1.0",
            }
        )

    def check(self, token: str) -> dict[str, object]:
        """The claims of an access token for Graph.

        Raises:
            TokenRefused: Wrong signature or audience, or expired.
        """
        claims = self._checked.get(token)
        if claims is None:
            try:
                claims = dict(jwt.decode(token, self._key, algorithms=["RS256"]).claims)
            except (JoseError, ValueError) as error:
                raise TokenRefused("Access token validation failure. Invalid signature.") from error
            if claims.get("aud") != GRAPH_AUDIENCE:
                raise TokenRefused("Access token validation failure. Invalid audience.")
            if len(self._checked) > 1000:
                self._checked.clear()
            self._checked[token] = claims
        if int(str(claims["exp"])) <= time.time():
            raise TokenRefused("Lifetime validation failed, the token is expired.")
        return claims

    def _sign(self, claims: dict[str, object]) -> str:
        return jwt.encode({"alg": "RS256", "kid": self._kid, "typ": "JWT"}, claims, self._key)


@lru_cache(maxsize=8)
def _read_key(pem: str) -> RSAKey:
    """Reading checks the key, which takes a tenth of a second: once per key is enough."""
    return RSAKey.import_key(pem)


def new_key() -> str:
    """A new private key that signs tokens, PEM."""
    return RSAKey.generate_key(2048, private=True).as_pem(private=True).decode()


def certificate_of(pem: str) -> Certificate:
    """What Entra keeps of an uploaded public certificate."""
    loaded = x509.load_pem_x509_certificate(pem.encode())
    return Certificate(
        # The x5t header is defined as SHA-1 (RFC 7515, 4.1.7); it names the key and protects nothing.
        loaded.fingerprint(hashes.SHA1()).hex(),  # noqa: S303
        loaded.fingerprint(hashes.SHA256()).hex(),
        loaded.public_bytes(serialization.Encoding.PEM).decode(),
    )


def secret_matches(application: Application, secret: str) -> bool:
    """Whether this is one of the application's client secrets; compared in constant time."""
    matches = [hmac.compare_digest(known.encode(), secret.encode()) for known in application.secrets]
    return any(matches)
