"""What all parts of the emulated Entra ID share: errors, look-ups, codes and sessions, pages.

"Microsoft Entra authentication and authorization error codes"
(https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, JSONResponse, Response

from connectors.emulators.common.notify import is_loopback
from connectors.emulators.microsoft.model import Application, Tenant
from connectors.emulators.microsoft.state import MicrosoftState
from connectors.emulators.microsoft.tokens import Tokens

MANY = ("common", "organizations")
"""Tenant names in addresses that stand for any organisation."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; img-src 'self' data:"


class EntraError(Exception):
    """An OAuth error with its AADSTS number.

    Args:
        error: OAuth 2.0 error code, e.g. ``invalid_client``.
        number: AADSTS number.
        text: Description without the number.
        status: HTTP status at the token endpoint.
    """

    def __init__(self, error: str, number: int, text: str, status: int = 400) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.error = error
        self.number = number
        self.status = status


@dataclass(slots=True)
class Code:
    """An authorization code that was given out and not redeemed yet."""

    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    person_id: str
    scope: str
    expires_at: float


class Authority:
    """The authority's state besides the directory: codes, sessions, its own address.

    Attributes:
        base: Its address, e.g. ``http://127.0.0.1:8090/entra``.
        sessions: Session cookie -> person id.
    """

    def __init__(self, state: MicrosoftState, tokens: Tokens) -> None:
        self.base = ""
        self.state = state
        self.tokens = tokens
        self.codes: dict[str, Code] = {}
        self.sessions: dict[str, str] = {}

    def issuer(self, tenant_id: str) -> str:
        """The issuer of a tenant's v2.0 tokens."""
        return f"{self.base}/{tenant_id}/v2.0"

    def tenant(self, name: str) -> Tenant:
        """A tenant by id or domain.

        Raises:
            EntraError: There is none.
        """
        with self.state.lock:
            for tenant in self.state.tenants.values():
                if name.lower() in (tenant.id, *tenant.domains):
                    return tenant
        raise EntraError("invalid_request", 90002, f"Tenant '{name}' not found.")

    def application(self, client_id: str) -> Application:
        """A registered application.

        Raises:
            EntraError: There is none.
        """
        application = self.state.applications.get(client_id)
        if application is None:
            raise EntraError(
                "unauthorized_client",
                700016,
                f"Application with identifier '{client_id}' was not found in the directory.",
            )
        return application

    def redirect_uri(self, application: Application, given: str) -> str:
        """Registered addresses exactly; without a registration every loopback address.

        Raises:
            EntraError: Not one of them.
        """
        if given in application.redirect_uris or (not application.redirect_uris and is_loopback(given)):
            return given
        raise EntraError(
            "invalid_request", 50011, f"The redirect URI '{given}' does not match those configured for the application."
        )

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """A page for people."""
        return HTMLResponse(
            _templates.get_template(template).render(**values),
            status,
            headers={"Content-Security-Policy": _CSP, "Cache-Control": "no-store", "X-Frame-Options": "DENY"},
        )


def error_json(error: EntraError) -> Response:
    """An error answer of the token endpoint."""
    trace, correlation = secrets.token_hex(16), secrets.token_hex(16)
    return JSONResponse(
        {
            "error": error.error,
            "error_description": f"{error} Trace ID: {trace} Correlation ID: {correlation}",
            "error_codes": [error.number],
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={error.number}",
        },
        error.status,
        headers={"Cache-Control": "no-store"},
    )
