"""Whether pictures with codes can be changed at Microsoft: what the pages say of it, from what was found out."""

from __future__ import annotations

from typing import Any

import pytest

from app.protection.onboarding import checks_to_json
from app.tenants.models import Tenant
from connectors.base.types import AccessCheck, CheckStatus
from tests.integration.console.estate import make_estate
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio

NOT_TRIED = AccessCheck("attachments", CheckStatus.SKIPPED, "Not tried.")
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "skipped"),
    ({"delivery": {"qr": "deface"}}, "unknown"),
    (
        {
            "delivery": {"qr": "deface"},
            "attachments": {"status": "refused", "at": "2026-11-22T02:00:00+00:00", "detail": "Graph said <b>no</b>."},
        },
        "unknown",
    ),
    ({"attachments": {"status": "works", "at": "2026-11-22T02:00:00+00:00", "detail": ""}}, "passed"),
]


@pytest.mark.parametrize(("settings", "status"), CASES, ids=["reported", "not-tried", "refused", "works"])
async def test_the_pages_say_what_is_known(console: Console, settings: dict[str, Any], status: str) -> None:
    tenant_id, browser, _ = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        tenant = await session.get_one(Tenant, tenant_id)
        tenant.settings = settings
        tenant.checks = checks_to_json([NOT_TRIED])
    page = await browser.page("/connector")
    assert f'data-testid="check-attachments" data-status="{status}"' in page
    assert "Changing pictures with QR codes" in page
    assert ("Refused on 2026-11-22: Graph said &lt;b&gt;no&lt;/b&gt;." in page) == ("refused" in str(settings))
    health = await browser.page("/connector-health")
    assert (f'data-testid="pictures" data-status="{status}"' in health) == (status != "skipped")


async def test_where_a_provider_has_no_such_check_none_is_shown(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        tenant = await session.get_one(Tenant, tenant_id)
        tenant.settings = {"delivery": {"qr": "deface"}}
        tenant.checks = checks_to_json([AccessCheck("push", CheckStatus.PASSED, "")])
    assert "check-attachments" not in await browser.page("/connector")
    assert 'data-testid="pictures"' not in await browser.page("/connector-health")
