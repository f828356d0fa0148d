"""A smaller chaos run: everything at once, everything survived."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.run import Plan, chaos, postgres, table


@pytest.mark.timeout(400)
def test_everything_at_once_loses_doubles_and_leaves_nothing() -> None:
    plan = Plan(messages=60, mailboxes=3, workers=3, kill_every=4.0, restarts=1, seconds=240)
    with postgres() as (server, urls, folder):
        outcome = asyncio.run(chaos(plan, server, urls, folder))
    assert outcome.problems == [], table(plan, outcome)
    assert outcome.restarts == 1
    assert outcome.kills > 0
    assert len(outcome.report.found) == plan.messages
