"""The console's routes, by subject."""

from __future__ import annotations

from app.console.routes.alerts import router as alerts_router
from app.console.routes.api import API_ROUTERS
from app.console.routes.audit import router as audit_router
from app.console.routes.backfill import router as backfill_router
from app.console.routes.clicks import router as clicks_router
from app.console.routes.connector import router as connector_router
from app.console.routes.health import router as health_router
from app.console.routes.incidents import router as incidents_router
from app.console.routes.lists import router as lists_router
from app.console.routes.mailbox_choice import router as mailbox_choice_router
from app.console.routes.messages import router as messages_router
from app.console.routes.my_clicks import router as my_clicks_router
from app.console.routes.offboarding import router as offboarding_router
from app.console.routes.onboarding import router as onboarding_router
from app.console.routes.overview import router as overview_router
from app.console.routes.people import router as people_router
from app.console.routes.quarantine import router as quarantine_router
from app.console.routes.settings import router as settings_router
from app.console.routes.sign_in import router as sign_in_router
from app.console.routes.sources import router as sources_router
from app.console.routes.what_if import router as what_if_router

ROUTERS = (
    sign_in_router,
    onboarding_router,
    overview_router,
    messages_router,
    clicks_router,
    incidents_router,
    lists_router,
    what_if_router,
    sources_router,
    connector_router,
    mailbox_choice_router,
    health_router,
    quarantine_router,
    backfill_router,
    offboarding_router,
    people_router,
    audit_router,
    settings_router,
    alerts_router,
    my_clicks_router,
    *API_ROUTERS,
)
