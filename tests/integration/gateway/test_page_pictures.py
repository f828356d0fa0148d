"""The pages' own pictures: the tenant's logo, and the one that says that a browser drew the page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from app.gateway.assets import PIXEL, logo_bytes
from app.kit.crypto import KeyRing
from app.kit.spool_reader import SpoolReader
from app.policy.engine import ListRule, PageWords, PolicySnapshot
from tests.integration.gateway.serving import Served, serve


def _png() -> bytes:
    done, data = cv2.imencode(".png", np.full((24, 60, 4), 120, np.uint8))
    assert done
    return data.tobytes()


PNG = _png()
RULES = (ListRule(1, "block", "wildcard", "evil.example"), ListRule(2, "lock", "wildcard", "held.example"))
LOGO = base64.b64encode(PNG).decode()


@pytest.fixture
def served(tmp_path: Path, keyring: KeyRing) -> Iterator[Served]:
    snapshots = (
        PolicySnapshot(1001, name="Contoso", rules=RULES, words=PageWords(logo=LOGO)),
        PolicySnapshot(1002, name="Fabrikam", rules=RULES),
        PolicySnapshot(1003, name="Own page", rules=RULES, words=PageWords(block_url="https://help.example/blocked")),
    )
    with serve(tmp_path, keyring, snapshots=snapshots) as running:
        yield running


def events(served: Served) -> list[dict[str, Any]]:
    folder = served.gateway.deps.spool.folder
    return [json.loads(payload) for batch in SpoolReader(folder).batches() for payload in batch.payloads]


def picture(page: str) -> str:
    found = re.search(r'src="(/l/-/seen-[^"]+)"', page)
    assert found is not None
    return found[1]


def test_a_page_carries_a_picture_whose_request_is_noted_once_for_its_click(served: Served) -> None:
    page = httpx.get(served.link("https://evil.example/"))
    assert "img-src 'self'; " in page.headers["content-security-policy"]
    address = served.url + picture(page.text)
    for _ in range(3):
        answer = httpx.get(address)
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/gif", PIXEL)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    click, seen = events(served)
    assert click["page"] is True
    assert (seen["kind"], seen["click"], seen["tenant"]) == ("seen", click["id"], 1001)
    assert served.gateway.stats.clicks == 1


def test_a_redirect_carries_none(served: Served) -> None:
    httpx.get(served.link("https://good.example/"))
    httpx.get(served.link("https://evil.example/", tenant_no=1003))
    assert ["page" in event for event in events(served)] == [False, False]


@pytest.mark.parametrize("change", ["method", "click", "mac", "old", "other"])
def test_a_picture_that_was_not_made_here_notes_nothing(served: Served, change: str) -> None:
    name = picture(httpx.get(served.link("https://evil.example/")).text)
    parts = re.fullmatch(r"(/l/-/seen-)(\d+)-([0-9a-f]{32})-([0-9a-f]+)\.([\w-]{24})\.gif", name)
    assert parts is not None
    start, number, click, expires, mac = parts.groups()
    forged = {
        "method": name,
        "click": f"{start}{number}-{'0' * 32}-{expires}.{mac}.gif",
        "mac": f"{start}{number}-{click}-{expires}.{'A' * 24}.gif",
        "old": f"{start}{number}-{click}-1.{mac}.gif",
        "other": f"{start}{number}-{click}-{expires}.{mac}.png",
    }[change]
    method = "POST" if change == "method" else "GET"
    assert httpx.request(method, served.url + forged).status_code in (200, 404)
    assert [event["kind"] for event in events(served)] == ["click"]


def test_a_browser_that_fetches_ahead_has_not_drawn_the_page(served: Served) -> None:
    name = picture(httpx.get(served.link("https://evil.example/")).text)
    httpx.get(served.url + name, headers={"Sec-Purpose": "prefetch"})
    assert [event["kind"] for event in events(served)] == ["click"]


def test_the_logo_is_shown_and_served_from_the_gateway_alone(served: Served) -> None:
    page = httpx.get(served.link("https://held.example/"))
    found = re.search(r'<img src="(/l/-/logo-[^"]+)" alt=""', page.text)
    assert found is not None
    answer = httpx.get(served.url + found[1])
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, PNG, "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert httpx.head(served.url + found[1]).content == b""
    assert "logo-" not in httpx.get(served.link("https://held.example/", tenant_no=1002)).text


@pytest.mark.parametrize(
    "name",
    [
        f"logo-1001-{'0' * 32}.png",
        f"logo-1002-{'0' * 32}.png",
        f"logo-999999-{'0' * 32}.png",
        "logo-1001-.png",
        "logo-1001-../../etc/passwd",
        "logo.png",
        "",
        "seen-1001-x.gif",
    ],
)
def test_no_other_file_is_there(served: Served, name: str) -> None:
    assert httpx.get(f"{served.url}/l/-/{name}").status_code == 404
    assert events(served) == []


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"<svg/>").decode(), "A" * 100_000])
def test_what_is_no_small_png_is_no_logo(text: str) -> None:
    assert logo_bytes(text) == b""
