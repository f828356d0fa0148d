"""Entra ID as an ASGI app: metadata here, pages in ``entra_pages``, tokens in ``entra_tokens``.

Document: "OpenID Connect on the Microsoft identity platform"
(https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc).
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.emulators.microsoft.entra_authority import MANY, Authority, EntraError, error_json
from connectors.emulators.microsoft.entra_pages import EntraPages
from connectors.emulators.microsoft.entra_tokens import TokenEndpoint
from connectors.emulators.microsoft.state import MicrosoftState
from connectors.emulators.microsoft.tokens import Tokens


class Entra:
    """The authority."""

    def __init__(self, state: MicrosoftState, tokens: Tokens) -> None:
        self._at = Authority(state, tokens)

    def set_base(self, base: str) -> None:
        """The authority's address, e.g. ``http://127.0.0.1:8090/entra``."""
        self._at.base = base

    def app(self) -> Starlette:
        """The ASGI app, to be mounted at the authority's address."""
        pages, endpoint = EntraPages(self._at), TokenEndpoint(self._at)
        return Starlette(
            routes=[
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery),
                Route("/{tenant}/discovery/v2.0/keys", self._keys),
                Route("/{tenant}/oauth2/v2.0/authorize", pages.authorize, methods=["GET", "POST"]),
                Route("/{tenant}/oauth2/v2.0/token", endpoint.token, methods=["POST"]),
                Route("/{tenant}/oauth2/v2.0/logout", pages.logout),
                Route("/{tenant}/v2.0/adminconsent", pages.admin_consent, methods=["GET", "POST"]),
                Route("/common/discovery/instance", self._instance),
            ]
        )

    async def _discovery(self, request: Request) -> Response:
        name = request.path_params["tenant"]
        if name in MANY:
            issuer_tenant = "{tenantid}"
        else:
            try:
                issuer_tenant = self._at.tenant(name).id
            except EntraError as error:
                return error_json(error)
        at = f"{self._at.base}/{name}"
        return JSONResponse(
            {
                "token_endpoint": f"{at}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                "jwks_uri": f"{at}/discovery/v2.0/keys",
                "response_modes_supported": ["query", "form_post"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "issuer": self._at.issuer(issuer_tenant),
                "authorization_endpoint": f"{at}/oauth2/v2.0/authorize",
                "end_session_endpoint": f"{at}/oauth2/v2.0/logout",
                "code_challenge_methods_supported": ["S256"],
                "claims_supported": [
                    "sub",
                    "iss",
                    "aud",
                    "exp",
                    "iat",
                    "nonce",
                    "preferred_username",
                    "name",
                    "tid",
                    "oid",
                    "email",
                    "wids",
                ],
                "tenant_region_scope": "EU",
            }
        )

    async def _keys(self, _: Request) -> Response:
        return JSONResponse(self._at.tokens.jwks())

    async def _instance(self, request: Request) -> Response:
        """Instance discovery as clients of the identity platform ask for it before they trust an authority."""
        endpoint = f"{self._at.base}/common/v2.0/.well-known/openid-configuration"
        return JSONResponse({"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": []})
