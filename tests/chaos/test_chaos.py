"""A small chaos run: every kind of fault at both providers, workers killed, PostgreSQL killed; everything survived."""

from __future__ import annotations

import asyncio

import pytest

from connectors.emulators.common.faults import FaultKind
from tests.chaos.everything import Plan, chaos
from tests.chaos.server import postgres
from tests.chaos.table import table


@pytest.mark.timeout(600)
def test_everything_at_once_loses_doubles_and_leaves_nothing() -> None:
    plan = Plan(messages=48, mailboxes=3, workers=2, kills=3, restarts=1, roughness=2.0, seconds=500)
    with postgres() as (server, urls, folder):
        outcome = asyncio.run(chaos(plan, server, urls, folder))
    seen = table(plan, outcome)
    assert outcome.problems == [], seen
    assert (outcome.restarts, outcome.kills) == (1, 3)
    assert len(outcome.report.found) == plan.messages
    injected = {kind for (_, kind), count in outcome.report.faults.items() if count}
    kinds = set(FaultKind) - {FaultKind.CONFLICT, FaultKind.TIMEOUT_BEFORE, FaultKind.LATENCY}
    assert injected == {kind.value for kind in kinds}, seen
    assert all(outcome.report.expired.values()), seen
