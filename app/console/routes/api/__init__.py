"""The JSON API: what the console shows, with the same permissions. Described by ``/api/v1/openapi.json``."""

from __future__ import annotations

from app.console.routes.api import clicks, incidents, messages, organisation, restores

API_ROUTERS = tuple(part.router for part in (organisation, messages, clicks, incidents, restores))
