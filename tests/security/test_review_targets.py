"""Targets of restore and backfill that are no numbers of ours are absent; nothing breaks over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.kit.ids import row_number
from tests.integration.console.estate import make_estate
from tests.integration.console.world import Console, Postgres, console_on_fresh_database

ODD = ("", "²", "١", "-1", "1e3", "0x1", "9" * 19, "9" * 299, "1;--", "\u0000")


@pytest.mark.parametrize("text", [*ODD, " 1"])
def test_what_is_no_row_number_is_none(text: str) -> None:
    assert row_number(text) is None


def test_a_row_number_is_read() -> None:
    assert (row_number("7"), row_number("9" * 18)) == (7, 10**18 - 1)


@pytest.fixture
async def console(postgres_server: Postgres, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_on_fresh_database(postgres_server, tmp_path) as running:
        yield running


@pytest.mark.anyio
async def test_odd_targets_are_absent(console: Console) -> None:
    _, browser, _ = await make_estate(console)
    for target in ODD:
        for page in ("/connector/restore", "/backfill/start"):
            answer = await browser.http.get(page, params={"scope": "mailbox", "target": target})
            assert answer.status_code == 404, (page, target)
        answer = await browser.post("/connector/restore", {"scope": "mailbox", "target": target})
        assert answer.status_code == 404
        answer = await browser.post("/backfill", {"scope": "mailbox", "target": target, "days": "7"})
        assert answer.status_code == 404
