"""Replacing messages by copies is chosen in the settings, with its price beside it, and recorded."""

from __future__ import annotations

import pytest

from app.console.audit_words import ACTS
from app.protection.copying import copies_chosen
from app.tenants.models import Tenant
from tests.integration.console.estate import make_estate
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio

_CHECKED = 'name="copies" value="true" checked'


async def test_it_is_off_until_an_administrator_allows_it_and_the_audit_log_says_so(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    page = await browser.page("/settings")
    assert "What a copy loses" in page
    assert 'name="copies" value="true"' in page
    assert _CHECKED not in page

    assert (await browser.post("/settings/copies", {"copies": "true"})).status_code == 303

    assert _CHECKED in await browser.page("/settings")
    async with console.database.tenant(tenant_id) as session:
        assert copies_chosen((await session.get_one(Tenant, tenant_id)).settings)
    assert str(ACTS["copies.allowed"]) in await browser.page("/audit")
    await browser.page("/settings")
    assert (await browser.post("/settings/copies", {})).status_code == 303
    assert _CHECKED not in await browser.page("/settings")
    assert str(ACTS["copies.forbidden"]) in await browser.page("/audit")


async def test_at_google_workspace_there_is_nothing_to_choose(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        (await session.get_one(Tenant, tenant_id)).provider = "google"
    assert "What a copy loses" not in await browser.page("/settings")
    assert (await browser.post("/settings/copies", {"copies": "true"})).status_code == 400
    async with console.database.tenant(tenant_id) as session:
        assert not copies_chosen((await session.get_one(Tenant, tenant_id)).settings)
