"""Where levels begin is each tenant's own, at the click: over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.kit.crypto import KeyRing
from app.policy.engine import PolicySnapshot
from tests.integration.gateway.serving import Served, serve

ADDRESS = "https://paypal.com@evil.example/"
"""60 points."""

USUAL, STRICT, LENIENT = 1001, 1002, 1003


@pytest.fixture
def served(tmp_path: Path, keyring: KeyRing) -> Iterator[Served]:
    snapshots = (
        PolicySnapshot(USUAL),
        PolicySnapshot(STRICT, level_from=(20, 60)),
        PolicySnapshot(LENIENT, level_from=(199, 200)),
    )
    with serve(tmp_path, keyring, snapshots=snapshots) as running:
        running.list_as("malicious", "listed.example")
        running.list_as("suspicious", "odd.example")
        yield running


def status(served: Served, url: str, tenant_no: int) -> int:
    return httpx.get(served.link(url, tenant_no=tenant_no)).status_code


def test_each_tenant_is_answered_by_its_own_points_in_whatever_order_they_click(served: Served) -> None:
    warned = status(served, "https://odd.example/", USUAL)
    blocked = status(served, "https://listed.example/", USUAL)
    assert len({warned, blocked, 302}) == 3
    wanted = {USUAL: warned, STRICT: blocked, LENIENT: 302}
    for order in ((USUAL, STRICT, LENIENT), (LENIENT, STRICT, USUAL), (STRICT, USUAL, LENIENT)):
        assert {tenant: status(served, ADDRESS, tenant) for tenant in order} == wanted


@pytest.mark.parametrize("tenant_no", [USUAL, STRICT, LENIENT])
def test_what_a_list_says_holds_whatever_the_points(served: Served, tenant_no: int) -> None:
    assert status(served, "https://listed.example/", tenant_no) == status(served, "https://listed.example/", USUAL)
    assert status(served, "https://odd.example/", LENIENT) == status(served, "https://odd.example/", USUAL) != 302


def test_a_change_holds_for_a_link_that_was_answered_before(served: Served) -> None:
    warned = status(served, ADDRESS, USUAL)
    served.gateway.deps.snapshots.put(PolicySnapshot(USUAL, level_from=(61, 85)))
    assert (warned, status(served, ADDRESS, USUAL)) == (status(served, "https://odd.example/", USUAL), 302)
