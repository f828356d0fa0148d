"""The database away and the gateway killed with -9 meanwhile, in small; ``make bench-outage`` does it at full size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.gateway_outage import run_outage
from tests.chaos.processes import start_role

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that the system user of the embedded server may enter."""
    with tempfile.TemporaryDirectory(prefix="postern-outage-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


async def test_no_answered_click_is_lost_or_doubled_when_database_and_gateway_fail_together(own_folder: Path) -> None:
    report = await run_outage(
        own_folder,
        rate=60,
        before=1.0,
        outage=2.0,
        after=1.0,
        start=lambda environment, log: start_role("gateway", environment, log),
    )
    answered = [click for click in report.clicks if click.answered]
    assert any(click.due > report.marks["back"] for click in answered), "nothing was answered after the restart"
    assert any(report.marks["stopped"] < click.due < report.marks["killed"] for click in answered)
    assert report.failed == []
    assert report.missing == []
    assert report.doubled == []
