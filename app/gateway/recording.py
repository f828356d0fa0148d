"""Making clicks durable before they are answered."""

from __future__ import annotations

from typing import Final

from app.gateway import assets
from app.gateway.clicks import Answer
from app.gateway.deps import GatewayDeps, GatewayStats
from app.gateway.events import (
    MAX_AGENT,
    MAX_HEADER,
    Subject,
    click_event,
    client_part,
    event_id,
    report_event,
    seen_event,
)
from app.gateway.forms import LIFETIME_SECONDS, FormSigner
from app.gateway.http import Request, fetched_ahead
from app.gateway.limits import Counter
from app.links.token import LinkToken
from app.messages.hosts import host_of

_MAX_CLIENTS: Final = 20_000
_MAX_AGENT_BYTES: Final = 4 * MAX_AGENT
_SIGNAL_HEADERS: Final = (
    b"sec-fetch-site",
    b"sec-fetch-mode",
    b"sec-fetch-dest",
    b"sec-fetch-user",
    b"accept",
    b"accept-language",
    b"via",
)


class Recorder:
    """Writes clicks, drawn pages and what people say to the spool.

    Args:
        deps: Spool, clock and networks.
        stats: Where clicks are counted.
        signer: Signs the names of pictures.
    """

    def __init__(self, deps: GatewayDeps, stats: GatewayStats, signer: FormSigner) -> None:
        self._deps, self._stats, self._signer = deps, stats, signer
        self._drawn = Counter(LIFETIME_SECONDS)
        self._clients: dict[tuple[bytes | tuple[bytes, bytes], ...], bytes] = {}

    async def click(
        self, request: Request, token: LinkToken, answer: Answer, judged: bytes, *, page: bool = False
    ) -> str:
        """Make a click durable. Where the disk refuses, the click goes on: the spool counts and alarms.

        Args:
            request: The click.
            token: Whose link.
            answer: By whose policy it is recorded.
            judged: See :func:`app.gateway.clicks.event_of`.
            page: It is answered with a page that holds a picture.

        Returns:
            The name of the picture for its page; empty where ``page`` is not set.
        """
        self._stats.clicks += 1
        number = event_id() if page else ""
        event = click_event(
            Subject(token.tenant_no, token.mailbox_no, token.message_no),
            self._deps.clock(),
            judged,
            self._client(request.headers),
            request.address if answer.snapshot.keep_address else None,
            number=number,
            page=page,
            datacentre=request.address in self._deps.datacentres,
        )
        if not await self._deps.spool.submit(event):
            self._stats.not_durable += 1
        if not page:
            return ""
        # Signed with the tenant: nobody's picture can be turned into one about another tenant's click.
        signature = self._signer.sign(f"{token.tenant_no}/{number}", "seen", self._deps.clock())
        return assets.seen_name(token.tenant_no, number, signature)

    async def drawn(self, request: Request, tenant_no: str, click_id: str, signature: str) -> None:
        """Note once that a browser asked for the picture of a click's page; anything else is passed over."""
        if (
            self._signer.check(signature, f"{tenant_no}/{click_id}", "seen", self._deps.clock())
            and not fetched_ahead(request.headers)
            and self._drawn.add(click_id, 1)
        ):
            self._stats.pages_seen += 1
            await self._deps.spool.submit(seen_event(int(tenant_no), click_id, self._deps.clock()))

    async def report(self, token: LinkToken, answer: Answer, kind: str, reason: str) -> bool:
        """Keep what a person said on a page; False where the disk refuses."""
        event = report_event(
            Subject(token.tenant_no, token.mailbox_no, token.message_no),
            self._deps.clock(),
            kind=kind,
            url=token.url,
            host=host_of(answer.verdict.final_url) or "",
            reason=reason,
        )
        return await self._deps.spool.submit(event)

    def _client(self, headers: dict[bytes, bytes]) -> bytes:
        """What asked, ready for the event; browsers say the same again and again."""
        # Cut before they become a key: what is kept for the next click must not be as large as a stranger likes.
        agent = headers.get(b"user-agent", b"")[:_MAX_AGENT_BYTES]
        signals = {name: headers[name][:MAX_HEADER] for name in _SIGNAL_HEADERS if name in headers}
        key: tuple[bytes | tuple[bytes, bytes], ...] = (agent, *signals.items())
        made = self._clients.get(key)
        if made is None:
            named = {name.decode(): value.decode("latin-1") for name, value in signals.items()}
            made = client_part(agent.decode("utf-8", "replace"), named)
            if len(self._clients) >= _MAX_CLIENTS:
                self._clients.clear()
            self._clients[key] = made
        return made
