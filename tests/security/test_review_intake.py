"""Notifications with text that no encoding takes are refused and counted like any forged one."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.integration.protection.world import Organisation
from tests.security.test_intake import client, counts, jobs, notification, organisation, subscribed

__all__ = ["client", "organisation"]

pytestmark = pytest.mark.anyio


async def test_half_a_surrogate_pair_as_secret_is_refused_and_counted(
    organisation: Organisation,
    client: httpx.AsyncClient,
) -> None:
    subscription = await subscribed(organisation)
    body = notification(subscription, "\ud800")
    genuine = notification(subscription, "s3cret")
    body["value"] += genuine["value"]
    answer = await client.post("/hooks/microsoft", content=json.dumps(body))
    assert answer.status_code == 202
    assert await counts(organisation) == {"wrong_secret": 1, "taken": 1}
    assert await jobs(organisation, "mailbox.sync") == 1
