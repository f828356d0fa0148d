"""The console's routes, by subject."""

from __future__ import annotations

from app.console.routes import (
    api,
    audit,
    clicks,
    connector,
    lists,
    messages,
    my_clicks,
    onboarding,
    overview,
    people,
    settings,
    sign_in,
)

ROUTERS = (
    sign_in.router,
    onboarding.router,
    overview.router,
    messages.router,
    clicks.router,
    lists.router,
    connector.router,
    people.router,
    audit.router,
    settings.router,
    my_clicks.router,
    api.router,
)
