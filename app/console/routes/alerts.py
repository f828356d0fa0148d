"""Who is told by mail, and trying it out. The form is a part of the settings page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import Response

from app.console.access import CheckedForm, Configurer, Deps
from app.console.pages import go
from app.protection.mail_alerts import MailPolicy, change_mail_policy, request_test

router = APIRouter(include_in_schema=False)


@router.post("/settings/alerts", dependencies=[CheckedForm])
async def alerts(
    visitor: Configurer,
    recipients: Annotated[str, Form(max_length=3_000)] = "",
    locale: Annotated[str, Form(max_length=10)] = "en",
) -> Response:
    """Set who is told, and in which language."""
    async with visitor.work() as session:
        await change_mail_policy(session, visitor.actor, MailPolicy(tuple(recipients.split()), locale))
    return go("/settings#alerts")


@router.post("/settings/alerts/test", dependencies=[CheckedForm])
async def test_mail(deps: Deps, visitor: Configurer) -> Response:
    """Have a test mail sent to everybody who is told."""
    async with visitor.work() as session:
        await request_test(session, visitor.actor, deps.clock())
    return go("/settings#alerts")
