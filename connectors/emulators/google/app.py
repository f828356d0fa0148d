"""The emulated Google as one ASGI app, to be mounted under ``/google``.

Addresses below are relative to :attr:`GoogleState.base_url`, e.g. ``http://127.0.0.1:8090/google``:

===================================  =======================================================================
``/gmail/v1/users/...``              Gmail API. ``api_endpoint`` of google-api-python-client: the base itself
``/upload/gmail/v1/...``             uploads: ``uploadType=media``, ``multipart`` or ``resumable``
``/admin/directory/v1/...``          Directory API. ``api_endpoint``: the base itself
``/pubsub/v1/projects/...``          Pub/Sub API. ``api_endpoint``: base + ``/pubsub``
``/iam/v1/projects/-/serviceAccounts/<address>:signJwt``
                                     IAM credentials API. ``api_endpoint``: base + ``/iam``. google-auth's
                                     ``iam.Signer`` has Google's address built in: rewrite it in its request
``/drive/v3/files/...``              Drive API. ``api_endpoint``: base + ``/drive/v3``; uploads at
                                     ``/upload/drive/v3/files``; shared files at ``/drive/file/d/<id>/view``
                                     and ``/drive/uc?id=<id>``
``/token``                           OAuth 2.0 token endpoint (also ``/oauth2/v4/token``)
``/o/oauth2/v2/auth``                authorization endpoint: a page with a button for each person
``/.well-known/openid-configuration``
                                     OpenID Connect discovery; issuer: the base, or ``Behaviour.issuer``
``/oauth2/v3/certs``                 public keys (JWKS) of ID tokens and Pub/Sub push tokens; as X.509
                                     certificates at ``/oauth2/v1/certs``
``/v1/userinfo``                     claims of the signed-in user
``/admin/``                          Admin console: sign in as an administrator, domain-wide delegation
===================================  =======================================================================

google-api-python-client sends uploads to ``https://<host>/upload/...`` whatever scheme and path ``api_endpoint``
has: replace everything before ``/upload`` in the request's URI by the base.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from connectors.emulators.google import (
    directory,
    drive,
    gmail_common,
    gmail_drafts,
    gmail_mailbox,
    gmail_messages,
    iam,
    pubsub_api,
)
from connectors.emulators.google.admin_console import AdminConsole
from connectors.emulators.google.api import Gate, Method, route
from connectors.emulators.google.errors import ApiError
from connectors.emulators.google.sign_in import Codes, SignIn
from connectors.emulators.google.state import GoogleState
from connectors.emulators.google.token_endpoint import TokenEndpoint
from connectors.emulators.google.uploads import upload_routes

GMAIL_METHODS: tuple[Method, ...] = (
    *gmail_messages.METHODS,
    *gmail_mailbox.METHODS,
    *gmail_drafts.METHODS,
)
"""All Gmail methods served."""

DIRECTORY_METHODS: tuple[Method, ...] = directory.METHODS
"""All Directory methods served."""

PUBSUB_METHODS: tuple[Method, ...] = pubsub_api.METHODS
"""All Pub/Sub methods served."""

DRIVE_METHODS: tuple[Method, ...] = drive.METHODS
"""All Drive methods served."""

IAM_METHODS: tuple[Method, ...] = iam.METHODS
"""All IAM credentials methods served."""


def create_app(state: GoogleState) -> ASGIApp:
    """The emulated Google for one state; the caller closes the state."""
    families: tuple[tuple[tuple[Method, ...], Gate | None], ...] = (
        (GMAIL_METHODS, gmail_common.gate),
        (DIRECTORY_METHODS, directory.gate),
        (PUBSUB_METHODS, pubsub_api.gate),
        (DRIVE_METHODS, None),
        (IAM_METHODS, None),
    )
    routes: list[BaseRoute] = []
    for methods, gate in families:
        for method in methods:
            routes.append(route(method, state, gate))
            if method.upload:
                routes += upload_routes(method, state, gate)
    codes = Codes(state.clock.timestamp)
    sign_in = SignIn(state, codes)
    tokens = TokenEndpoint(state, codes)
    routes += [
        Route("/token", tokens.token, methods=["POST"]),
        Route("/oauth2/v4/token", tokens.token, methods=["POST"]),
        Route("/o/oauth2/v2/auth", sign_in.choose, methods=["GET"]),
        Route("/o/oauth2/v2/auth", sign_in.chosen, methods=["POST"]),
        Route("/.well-known/openid-configuration", sign_in.discovery),
        Route("/oauth2/v3/certs", sign_in.certs),
        Route("/oauth2/v1/certs", sign_in.certificates),
        Route("/robot/v1/metadata/x509/{account}", sign_in.account_certificates),
        Route("/v1/userinfo", sign_in.userinfo),
        *drive.share_routes(state),
        *AdminConsole(state).routes(),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown addresses and methods answer as Google's front end does: JSON with an error."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse(ApiError(code, "Not Found" if code == 404 else "Error", "notFound").body(), code)
