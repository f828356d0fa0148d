"""Alerts by mail in the settings: who is told, trying it out, and what became of the last mails."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.protection.mail_models import MailAlert
from app.tenants.actor import Role
from tests.integration.console.estate import make_estate, rows
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_addresses_are_kept_and_the_last_mails_are_shown(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    page = await browser.page("/settings")
    assert 'data-testid="no-mail-server"' in page, "this installation has none"
    addresses = "soc@nordwind.example\r\nboss@nordwind.example\r\n"
    assert (await browser.post("/settings/alerts", {"recipients": addresses, "locale": "ja"})).status_code == 303
    page = await browser.page("/settings")
    assert "soc@nordwind.example\nboss@nordwind.example</textarea>" in page
    assert (await browser.post("/settings/alerts/test")).status_code == 303
    assert (await browser.post("/settings/alerts/test")).status_code == 409
    async with console.database.tenant(tenant_id) as session:
        for mail in await session.scalars(select(MailAlert)):
            mail.state, mail.error = "failed", "recipient 550"
    shown = rows(await browser.page("/settings"), "mail-row")
    assert len(shown) == 2
    assert all("Given up" in row and "refused the address (550)" in row for row in shown)
    assert "Alerts by mail changed" in await browser.page("/audit")


@pytest.mark.parametrize("recipients", ["nobody", "a@b.example, c@d.example", "<script>@x.example"])
async def test_what_is_no_address_is_refused(console: Console, recipients: str) -> None:
    _, browser, _ = await make_estate(console)
    answer = await browser.post("/settings/alerts", {"recipients": recipients})
    assert answer.status_code == 400
    assert "no mail address" in answer.text


@pytest.mark.parametrize("role", [Role.ANALYST, Role.AUDITOR, Role.DOMAIN_ADMIN, Role.USER])
async def test_who_may_not_configure_does_not_see_who_is_told(console: Console, role: Role) -> None:
    tenant_id, browser, _ = await make_estate(console)
    await browser.post("/settings/alerts", {"recipients": "soc@elsewhere.example"})
    await browser.post("/settings/alerts/test")
    other = await console.signed_in(tenant_id, role)
    assert "soc@elsewhere.example" not in await other.page("/settings")
