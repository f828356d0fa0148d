"""The demo's websites, served by host name (``http://<name>.localhost:<port>/``) or below ``/sites/<name>/``.

Every page says that it is a demonstration. The fake sign-in page has fields so that it looks like one, and
sends nothing anywhere: its form has no target and its page runs no script.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Site:
    """One website. ``kind`` is ``article``, ``login``, ``share`` or ``short``."""

    title: str
    text: str
    kind: str = "article"
    language: str = "en"


SITES = {
    "news.lumen-post": Site("Lumen Post", "Cities that work at night: how harbours changed their hours."),
    "shop.alpenkraft": Site("Alpenkraft", "Ihre Bestellung und alle Angebote der Woche.", language="de"),
    "portal.elbkontor": Site("Elbkontor Rechnungsportal", "Ihre Rechnung liegt zur Ansicht bereit.", language="de"),
    "account.tidepool": Site("Tidepool", "Your account page. A single-use link would have been used up here."),
    "meet.rundtisch": Site("Rundtisch", "The meeting room opens ten minutes before the start."),
    "track.parcelwind": Site("Parcelwind", "Your parcel is on its way to the depot."),
    "lists.harbour-forum": Site("Harbour Forum", "Archive of the mailing list and subscription settings."),
    "intranet.nordwind": Site("Nordwind Intranet", "Dienstplan, Formulare und Ansprechpartner.", language="de"),
    "books.kasuga": Site("春日書房", "新刊と在庫のご案内です。", language="ja"),
    "order.hoshi-market": Site("星マーケット", "ご注文の詳細はこちらでご確認いただけます。", language="ja"),
    "survey.klarblick": Site("Klarblick", "Thank you for taking part in our survey."),
    "docs.papierboot": Site("Papierboot", "A document that was shared with you."),
    "login.paypa1-secure": Site("PayPa1 – Sign in", "Confirm your account to lift the limitation.", "login"),
    "login.nordwind-sso": Site("Nordwind SSO", "Ihre Sitzung ist abgelaufen. Bitte melden Sie sich an.", "login", "de"),
    "signin.kasuga-mail": Site("春日メール", "セッションの有効期限が切れました。", "login", "ja"),
    "win.voucher-rad": Site("Voucher Rad", "Spin the wheel! Everybody is a winner today."),
    "verify.bankhaus-elbe": Site("Bankhaus Elbe", "Bitte bestätigen Sie Ihre Angaben.", "login", "de"),
    "files.nordhafen-dokumente": Site("Nordhafen Dokumente", "Ein Dokument wurde für Sie freigegeben.", "share", "de"),
    "s.kurz1": Site("kurz1", "A link shortener.", "short"),
}
"""By the name in front of ``.localhost``."""

SHORT_LINKS = {"/a7Kq2": ("news.lumen-post", "/harbours"), "/Zx91b": ("login.paypa1-secure", "/signin")}
"""Where the shortener leads."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
_PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa7\x9a\xa0\xa0\x00\x00\x00\x00IEND\xaeB`\x82"
)


class Sites:
    """Serves the websites; ``turned`` holds the names of those that have turned bad."""

    def __init__(self, turned: set[str]) -> None:
        self.turned = turned
        self.visits: list[str] = []
        """Addresses that were opened, newest last; tests look whether a click arrived."""

    def app(self) -> Starlette:
        """Below ``/sites``."""
        return Starlette(routes=[Route("/{name}{path:path}", self._by_path, methods=["GET", "HEAD", "POST"])])

    def by_host(self, inner: ASGIApp) -> ASGIApp:
        """In front of everything else: requests for ``*.localhost`` are for a website."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            name = _site_name(scope) if scope["type"] == "http" else None
            if name is None:
                await inner(scope, receive, send)
                return
            response = self.page(name, Request(scope, receive))
            await response(scope, receive, send)

        return app

    async def _by_path(self, request: Request) -> Response:
        return self.page(request.path_params["name"], request)

    def page(self, name: str, request: Request) -> Response:
        """A website's page; all paths of a site show the same, except pixels and short links."""
        site = SITES.get(name)
        path = request.url.path
        if site is None:
            return self._render("nothing.html", 404, name=name)
        if path.endswith(".png"):
            return Response(_PIXEL, media_type="image/png", headers={"Cache-Control": "no-store"})
        self.visits = [*self.visits[-199:], f"{name}{path}"]
        if site.kind == "short":
            target = SHORT_LINKS.get(path)
            if target is None:
                return self._render("nothing.html", 404, name=name)
            port = f":{request.url.port}" if request.url.port else ""
            return RedirectResponse(f"http://{target[0]}.localhost{port}{target[1]}", 302)
        bad = site.kind == "login" or name in self.turned
        return self._render("login.html" if bad else "article.html", site=site, name=name)

    def _render(self, template: str, status: int = 200, **values: object) -> Response:
        return HTMLResponse(_templates.get_template(template).render(**values), status, headers=_HEADERS)


def _site_name(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1").rpartition(":")[0] or value.decode("latin-1")
            if host.lower().endswith(".localhost"):
                return str(host.lower().removesuffix(".localhost"))
    return None
