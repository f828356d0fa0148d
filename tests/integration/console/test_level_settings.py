"""From how many points on a link is suspicious or malicious is chosen in the settings, and decides."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from app.console.audit_words import FACTS
from app.policy.service import PolicyService
from app.policy.snapshots import SnapshotStore
from app.protection.what_if import what_if
from app.tenants.actor import Role, cli_actor
from app.verdicts.lists import installed_lists
from tests.integration.console.estate import make_estate
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio

ADDRESS = "https://paypal.com@evil.example/"
"""60 points."""


async def test_the_points_are_chosen_in_the_settings_and_decide(console: Console, tmp_path: Path) -> None:
    tenant_id, browser, _ = await make_estate(console)
    asked = f"/what-if?url={quote(ADDRESS, safe='')}&user=&at="
    page = await browser.page("/settings")
    assert 'name="suspicious_from" type="number" min="1" max="200" value="40"' in page
    assert 'name="malicious_from" type="number" min="1" max="200" value="85"' in page
    assert 'data-outcome="warn"' in await browser.page(asked)
    await browser.page("/settings")
    chosen = {"name": "Nordwind AG", "suspicious_from": "20", "malicious_from": "60"}
    assert (await browser.post("/settings/organisation", chosen)).status_code == 303
    page = await browser.page("/settings")
    assert 'max="200" value="20"' in page and 'max="200" value="60"' in page
    snapshot = await PolicyService(console.database).snapshot(tenant_id)
    assert snapshot.level_from == (20, 60)
    assert 'data-outcome="block"' in await browser.page(asked)
    log = await browser.page("/audit")
    assert str(FACTS["suspicious_from"]) in log and str(FACTS["malicious_from"]) in log

    store = SnapshotStore(tmp_path)
    await store.refresh_all(console.database)
    again = SnapshotStore(tmp_path)
    assert again.load_from_disk() >= 1
    assert again.get(snapshot.tenant_no).level_from == (20, 60)


async def test_the_command_judges_by_the_tenants_points_and_by_no_others(console: Console, tmp_path: Path) -> None:
    strict, browser, _ = await make_estate(console)
    other = await console.make_tenant("Other")
    await browser.page("/settings")
    chosen = {"name": "Nordwind AG", "suspicious_from": "20", "malicious_from": "60"}
    assert (await browser.post("/settings/organisation", chosen)).status_code == 303
    levels = []
    for tenant_id in (strict, other):
        async with console.database.tenant(tenant_id) as session:
            found = await what_if(
                session, cli_actor(tenant_id), ADDRESS, lists=installed_lists(None, tmp_path), now=console.clock()
            )
        levels.append(found.as_json()["level"])
    assert levels == ["malicious", "suspicious"]


@pytest.mark.parametrize(
    ("suspicious", "malicious"),
    [("0", "85"), ("40", "201"), ("85", "85"), ("90", "40"), ("-1", "5"), ("4.5", "85"), ("many", "85")],
)
async def test_where_no_level_can_begin_is_refused(console: Console, suspicious: str, malicious: str) -> None:
    tenant_id, browser, _ = await make_estate(console)
    await browser.page("/settings")
    wrong = {"name": "Other name", "suspicious_from": suspicious, "malicious_from": malicious}
    assert (await browser.post("/settings/organisation", wrong)).status_code in (400, 422)
    snapshot = await PolicyService(console.database).snapshot(tenant_id)
    assert snapshot.level_from == (40, 85)
    assert snapshot.name != "Other name"


async def test_who_does_not_configure_changes_no_points(console: Console) -> None:
    tenant_id, _, _ = await make_estate(console)
    analyst = await console.signed_in(tenant_id, Role.ANALYST)
    await analyst.page("/settings")
    chosen = {"name": "Nordwind AG", "suspicious_from": "1", "malicious_from": "2"}
    assert (await analyst.post("/settings/organisation", chosen)).status_code == 403
    assert (await PolicyService(console.database).snapshot(tenant_id)).level_from == (40, 85)
