"""The page of threat sources: what an organisation sees of what its operator switched on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import delete, update

from app.protection.incident_models import ServiceReviewState
from app.tenants.actor import Role
from app.verdicts.sources.models import FeedFileRow, ThreatSourceRow
from app.verdicts.sources.service import add_source, new_config
from tests.integration.console.estate import make_estate, rows
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio

PRIVATE = "misp.inside.example"


@pytest.fixture
async def with_sources(console: Console) -> AsyncIterator[Console]:
    """Sources in every state; they belong to the installation, so they are taken away again."""
    now = console.clock()
    async with console.database.untenanted() as session:
        for name, kind, values in (
            ("URLhaus", "urlhaus", {"secret_ref": "env:HAUS"}),
            ("OpenPhish", "openphish", {}),
            ("Inside", "list", {"address": f"https://{PRIVATE}/list"}),
            ("New one", "list", {"address": "https://new.example/"}),
            ("Switched off", "list", {"address": "https://off.example/", "enabled": False}),
        ):
            await add_source(session, new_config(kind, name, **{"enabled": True, **values}))
        asked = {"last_success": now, "next_try": now + timedelta(hours=1)}
        source = update(ThreatSourceRow)
        await session.execute(
            source.where(ThreatSourceRow.name == "URLhaus").values(entries=12_345, last_change=now, **asked)
        )
        await session.execute(source.where(ThreatSourceRow.name == "OpenPhish").values(entries=300, **asked))
        session.add(FeedFileRow(kind="list", source="OpenPhish", held=True, reasons=["it shrank"], size=0, sha256=b""))
        await session.execute(
            source.where(ThreatSourceRow.name == "Inside").values(
                error=f"{PRIVATE} could not be reached.", failures=3, next_try=now
            )
        )
    yield console
    async with console.database.untenanted() as session:
        await session.execute(delete(ThreatSourceRow))
        await session.execute(delete(FeedFileRow))


async def test_each_source_that_is_on_is_shown_with_state_entries_and_terms(with_sources: Console) -> None:
    _, browser, _ = await make_estate(with_sources)
    page = await browser.get("/threat-sources")
    found = [" ".join(row.split()) for row in rows(page.text, "source")]
    assert len(found) == 4
    inside, new, phish, haus = found
    assert "Does not answer" in inside
    assert "Not asked yet" in new
    assert "Held for review" in phish
    assert "300" in phish
    assert "12,345" in haus
    assert "In use" in haus
    assert "fair-use terms" in haus
    assert "Switched off" not in page.text


async def test_what_only_the_operator_knows_is_not_shown(with_sources: Console) -> None:
    _, browser, _ = await make_estate(with_sources)
    page = await browser.get("/threat-sources")
    assert PRIVATE not in page.text
    assert "env:HAUS" not in page.text
    assert "it shrank" not in page.text


async def test_without_sources_it_says_what_links_are_judged_by(console: Console) -> None:
    _, browser, _ = await make_estate(console)
    page = await browser.get("/threat-sources")
    assert page.status_code == 200
    assert "No source is switched on." in page.text


async def test_a_person_without_a_role_does_not_see_it(console: Console) -> None:
    tenant_id, _, _ = await make_estate(console)
    user = await console.signed_in(tenant_id, Role.USER)
    assert (await user.get("/threat-sources")).status_code == 403


async def test_how_often_services_were_asked_about_delivered_links_is_said(with_sources: Console) -> None:
    tenant_id, browser, _ = await make_estate(with_sources)
    assert 'data-testid="review"' not in (await browser.get("/threat-sources")).text
    async with with_sources.database.tenant(tenant_id) as session:
        for age, asked in ((600, 1_200), (3600, 34)):
            session.add(
                ServiceReviewState(
                    tenant_id=tenant_id,
                    age_seconds=age,
                    asked=asked,
                    missed=2,
                    reported=1,
                    updated_at=with_sources.clock(),
                )
            )
    (said,) = rows((await browser.get("/threat-sources")).text, "review")
    said = " ".join(said.split())
    assert "asked about delivered links again: 1,234 times so far" in said
    assert "They reported 2 as dangerous and did not answer 4 times." in said
    assert "<" not in said
