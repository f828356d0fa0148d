"""Keys and sealing.

Everything derives from the master keys with HKDF-SHA256 (RFC 5869), per purpose and per tenant, so that a
key used for one thing or one tenant opens nothing of another's.
"""

from __future__ import annotations

import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class SealBroken(Exception):
    """Sealed data was changed, or belongs to another tenant, purpose or key."""


class KeyRing:
    """The master keys, by number; new things use the current one, old ones keep opening.

    Args:
        keys: Number (0 to 255) -> key of 32 bytes or more. The first is the current one.
    """

    def __init__(self, keys: dict[int, bytes]) -> None:
        if not keys:
            raise ValueError("a key ring needs a key")
        self._keys = dict(keys)
        self.current = next(iter(keys))
        self._derive = lru_cache(maxsize=4096)(self._derive_uncached)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of all keys, the current one first."""
        return tuple(self._keys)

    def __repr__(self) -> str:
        return f"KeyRing(current={self.current}, numbers={sorted(self._keys)})"

    def __contains__(self, number: int) -> bool:
        return number in self._keys

    def derive(self, number: int, purpose: str, scope: bytes = b"", length: int = 32) -> bytes:
        """A key for one purpose and scope.

        Raises:
            KeyError: No such master key.
        """
        return self._derive(number, purpose, scope, length)

    def _derive_uncached(self, number: int, purpose: str, scope: bytes, length: int) -> bytes:
        info = b"postern/v1/" + purpose.encode() + b"/" + scope
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(self._keys[number])

    def seal(self, purpose: str, scope: bytes, plain: bytes) -> bytes:
        """Encrypt with AES-256-GCM under the current key: key number, nonce, ciphertext."""
        nonce = os.urandom(12)
        number = self.current
        sealed = AESGCM(self.derive(number, purpose, scope)).encrypt(nonce, plain, bytes([number]))
        return bytes([number]) + nonce + sealed

    def open(self, purpose: str, scope: bytes, sealed: bytes) -> bytes:
        """Decrypt what :meth:`seal` made.

        Raises:
            SealBroken: It was changed, or made for another purpose, scope or key.
        """
        if len(sealed) < 29 or sealed[0] not in self._keys:
            raise SealBroken("sealed data is too short or under an unknown key")
        key = self.derive(sealed[0], purpose, scope)
        try:
            return AESGCM(key).decrypt(sealed[1:13], sealed[13:], sealed[:1])
        except InvalidTag:
            raise SealBroken("sealed data does not open") from None
