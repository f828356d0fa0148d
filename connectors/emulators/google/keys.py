"""RSA keys: the one Google signs ID tokens with, and those of service accounts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey


class SigningKey:
    """An RSA key with an id. ``repr`` shows the id only."""

    def __init__(self, pem: str, key_id: str) -> None:
        self.pem = pem
        self.key_id = key_id
        self._key = RSAKey.import_key(pem)

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id!r})"

    @classmethod
    def generate(cls) -> SigningKey:
        """A new 2048-bit key."""
        private = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls(pem.decode("ascii"), secrets.token_hex(20))

    def sign_jwt(self, claims: Mapping[str, Any]) -> str:
        """A compact JWS with RS256 (RFC 7519)."""
        header = {"alg": "RS256", "kid": self.key_id, "typ": "JWT"}
        return jwt.encode(header, dict(claims), self._key, algorithms=["RS256"])

    def sign_bytes(self, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256."""
        return self._private().sign(data, padding.PKCS1v15(), hashes.SHA256())

    def read_jwt(self, token: str) -> dict[str, Any] | None:
        """The claims of a token signed with this key, or None where the signature is another's."""
        try:
            return dict(jwt.decode(token, self._key, algorithms=["RS256"]).claims)
        except (JoseError, ValueError):
            return None

    def public_jwk(self) -> dict[str, Any]:
        """The public key for a JWKS (RFC 7517)."""
        return {
            **self._key.as_dict(private=False),
            "kid": self.key_id,
            "alg": "RS256",
            "use": "sig",
            "kty": "RSA",
        }

    def certificate(self, subject: str) -> str:
        """A self-signed X.509 certificate of the public key, PEM, valid for ten years from 2026."""
        key = self._private()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
        start = datetime(2026, 1, 1, tzinfo=UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(int(self.key_id[:16], 16))
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=3_652))
            .sign(key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def _private(self) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(self.pem.encode("ascii"), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("This has to be an RSA key.")
        return key

    def save(self) -> dict[str, str]:
        """Plain data for JSON; holds the private key."""
        return {"pem": self.pem, "key_id": self.key_id}

    @classmethod
    def load(cls, data: Mapping[str, str]) -> SigningKey:
        """The reverse of :meth:`save`."""
        return cls(data["pem"], data["key_id"])
