"""Opening link tokens, those of very long links with what is stored for them."""

from __future__ import annotations

from app.gateway.deps import GatewayDeps
from app.kit.crypto import SealBroken
from app.links.mint import LinkOpener
from app.links.token import LinkBroken, LinkToken, PayloadNeeded


class TokenDoor:
    """Opens the tokens of this installation."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._opener = LinkOpener(deps.keyring, deps.settings.gateway_url, deps.settings.gateway_prefix)
        self._payloads = deps.payloads

    async def open(self, host: str, text: str) -> LinkToken:
        """Open a token; fetches the stored target of a very long link.

        Args:
            host: The host that the link shows.
            text: The token.

        Raises:
            LinkBroken: It does not open.
            LookupError: Its target cannot be read now.
        """
        try:
            return self._opener.open_parts(host, text)
        except PayloadNeeded as needed:
            if self._payloads is None:
                raise LookupError("no database") from None
            sealed = await self._payloads(needed.tenant_no, needed.digest)
            if sealed is None:
                raise LinkBroken("payload_missing") from None
            try:
                return self._opener.open_parts(host, text, sealed)
            except SealBroken:
                raise LinkBroken("tampered") from None
