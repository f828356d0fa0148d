"""What was seen for one tenant says nothing about another: whose domain a page is on belongs to the verdict."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from app.kit.safe_http import FetchLimits, SafeFetcher
from app.verdicts.feed import FeedFile
from app.verdicts.judge import PageResult
from app.verdicts.page_check import PageCheck
from tests.integration.gateway.test_page_check import LOGIN, Web, loopback, web

__all__ = ["web"]

pytestmark = pytest.mark.anyio


def codes(result: PageResult | None) -> set[str]:
    assert result is not None
    return {signal.code for signal in result.signals}


async def test_a_tenant_cannot_vouch_for_a_page_to_others(web: Web, tmp_path: Path) -> None:
    """Somebody makes the domain of his phishing page a domain of his own organisation and looks at it first."""
    web.pages["login.phish.example/"] = LOGIN.format("PayPal", "")
    limits = FetchLimits(ports=frozenset({web.port}), allowed=(ipaddress.ip_network("127.0.0.1/32"),))
    pages = PageCheck(SafeFetcher(limits, loopback), FeedFile(tmp_path / "feed.tsv"))
    url = web.url("login.phish.example/")
    try:
        his = await pages.check(url, 20, frozenset({"phish.example"}))
        theirs = await pages.check(url, 20, frozenset({"our.example"}))
        nobodys = await pages.check(url, 20)
    finally:
        await pages.aclose()
    assert codes(his) == set()
    assert codes(theirs) == codes(nobodys) != set()
