"""Sending pages: in the reader's language, with the tenant's name, logo and buttons."""

from __future__ import annotations

from app.gateway import assets, pages, views
from app.gateway.clicks import Answer
from app.gateway.deps import GatewayDeps, GatewayStats
from app.gateway.forms import FormSigner
from app.gateway.http import Request, send_page
from app.kit.i18n import Translator, negotiate, translator
from app.policy.engine import Action, PolicySnapshot


class Front:
    """What people see of the gateway.

    Args:
        deps: Prefix and clock.
        stats: Where those that were too many are counted.
        signer: Signs buttons.
    """

    def __init__(self, deps: GatewayDeps, stats: GatewayStats, signer: FormSigner) -> None:
        self._clock, self._stats, self._signer = deps.clock, stats, signer
        self._assets = f"/{deps.settings.gateway_prefix}/{assets.FOLDER}/"

    async def page(
        self,
        request: Request,
        status: int,
        view: views.View,
        snapshot: PolicySnapshot | None = None,
        drawn: str = "",
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Send a page.

        Args:
            request: To answer.
            status: HTTP status.
            view: What it says.
            snapshot: The tenant whose name and words are shown; None: nobody's.
            drawn: Name of the picture that says that it was drawn; empty: none.
            extra: More headers.
        """
        frame = None
        if snapshot is not None:
            logo = assets.logo_of(snapshot)
            frame = pages.Frame(self._assets + logo if logo else "", self._assets + drawn if drawn else "")
        page = pages.render(view, self.words(request, snapshot), snapshot, frame)
        await send_page(request, status, page, extra)

    async def plain(
        self, request: Request, status: int, kind: str, extra: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Send a page that says the same to everybody; see :func:`app.gateway.pages.plain_page`."""
        await send_page(request, status, pages.plain_page(kind, self.words(request).locale), extra)

    async def limited(self, request: Request) -> None:
        """Ask to wait."""
        self._stats.limited += 1
        await self.plain(request, 429, "limited", extra=((b"retry-after", b"60"),))

    def words(self, request: Request, snapshot: PolicySnapshot | None = None) -> Translator:
        """The reader's language: what the browser asks for, else the tenant's."""
        default = snapshot.words.locale if snapshot is not None else ""
        header = request.headers.get(b"accept-language")
        accepted = None if header is None else header.decode("latin-1")
        return translator(negotiate(accepted, default or "en"), pages.DOMAIN)

    def keys(self, link: str, acts: tuple[str, ...]) -> dict[str, str]:
        """Signatures for the buttons of a link's page."""
        now = self._clock()
        return {act: self._signer.sign(link, act, now) for act in acts}


def shows_page(answer: Answer) -> bool:
    """Whether what a click gets is a page of ours: no redirect, and no page of the tenant's own."""
    action = answer.decision.action
    return action is not Action.REDIRECT and not (action is Action.BLOCK and pages.own_page(answer.snapshot))
