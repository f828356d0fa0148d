"""The organisation's logo: nothing but pixels of a small PNG or JPEG gets in."""

from __future__ import annotations

import base64
import zlib

import cv2
import httpx
import numpy as np
import pytest

from app.console.logo import MAX_LOGO_BYTES, MAX_UPLOAD, made_logo
from app.gateway.assets import logo_bytes
from app.kit.errors import Refused
from app.messages.qr.headers import read_header
from app.policy.service import PolicyService
from app.tenants.actor import Role
from tests.integration.console.estate import make_estate
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio


def picture(width: int, height: int, kind: str = ".png", noise: bool = False) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 255, (height, width, 3), np.uint8)
    if not noise:
        pixels[:] = (120, 60, 20)
    done, data = cv2.imencode(kind, pixels)
    assert done
    return data.tobytes()


def with_text(png: bytes, text: bytes) -> bytes:
    """A PNG with a text chunk, where people put other things too."""
    chunk = b"tEXt" + text
    return png[:33] + len(text).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + png[33:]


def bomb() -> bytes:
    """A PNG of some bytes whose header promises two billion pixels."""
    png = bytearray(picture(8, 8))
    png[16:24] = (60_000).to_bytes(4, "big") + (40_000).to_bytes(4, "big")
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    return bytes(png)


async def upload(browser: Browser, data: bytes, name: str = "logo.png") -> httpx.Response:
    return await browser.post("/settings/logo", files={"file": (name, data, "image/png")})


@pytest.mark.parametrize(("width", "height"), [(10, 10), (384, 96), (2000, 300), (30, 1500), (1, 1)])
@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_a_picture_comes_out_as_a_png_that_fits(width: int, height: int, kind: str) -> None:
    made = made_logo(picture(width, height, kind))
    header = read_header(made)
    assert header is not None
    assert header.kind == "png"
    assert header.width <= 384
    assert header.height <= 96
    assert logo_bytes(base64.b64encode(made).decode()) == made


def test_a_photograph_is_made_smaller_until_it_fits() -> None:
    made = made_logo(picture(300, 90, ".jpg", noise=True))
    assert len(made) <= MAX_LOGO_BYTES


def test_nothing_but_pixels_is_kept() -> None:
    said = b"Comment\0<script>alert(1)</script>"
    assert said[-20:] in with_text(picture(40, 20), said)
    assert b"script" not in made_logo(with_text(picture(40, 20), said))
    assert b"script" not in made_logo(picture(40, 20) + b"<script>alert(1)</script>")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "logo_kind"),
        (b"GIF89a" + bytes(100), "logo_kind"),
        (b"", "logo_kind"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "logo_kind"),
        (bomb(), "logo_pixels"),
        (picture(40, 20)[:50], "logo_unreadable"),
        (bytes(MAX_UPLOAD + 1), "logo_size"),
    ],
    ids=["svg", "gif", "empty", "cut", "bomb", "torn", "large"],
)
def test_anything_else_is_refused_by_name(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        made_logo(data)
    assert refused.value.code == code


async def test_a_logo_is_uploaded_shown_and_removed(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    policy = PolicyService(console.database)
    assert (await browser.get("/settings/logo")).status_code == 404
    await browser.page("/settings")
    assert (await upload(browser, picture(300, 80))).status_code == 303
    shown = await browser.get("/settings/logo")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert logo_bytes((await policy.snapshot(tenant_id)).words.logo) == shown.content
    assert 'data-testid="logo"' in await browser.page("/settings")
    refused = await upload(browser, b"<svg/>", "logo.svg")
    assert refused.status_code == 400
    assert (await browser.get("/settings/logo")).content == shown.content
    assert (await browser.post("/settings/logo/remove")).status_code == 303
    assert (await policy.snapshot(tenant_id)).words.logo == ""


async def test_the_name_of_the_organisation_changes_without_its_logo(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    await browser.page("/settings")
    await upload(browser, picture(300, 80))
    saved = await browser.post("/settings/organisation", {"name": "Nordwind AG", "link_days": "90"})
    assert saved.status_code == 303
    snapshot = await PolicyService(console.database).snapshot(tenant_id)
    assert snapshot.name == "Nordwind AG"
    assert snapshot.words.logo
    assert (await browser.post("/settings/organisation", {"name": "N", "link_days": "-1"})).status_code == 400


async def test_the_colour_the_own_page_and_what_a_level_does_are_chosen_in_the_settings(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    policy = PolicyService(console.database)
    await browser.page("/settings")
    chosen = {
        "name": "Nordwind AG",
        "accent": "#AA3300",
        "block_url": "https://intranet.nordwind.example/blocked",
        "unknown": "warn",
        "suspicious": "lock",
        "malicious": "block",
    }
    assert (await browser.post("/settings/organisation", chosen)).status_code == 303
    snapshot = await policy.snapshot(tenant_id)
    assert (snapshot.words.accent, snapshot.words.block_url) == ("#aa3300", chosen["block_url"])
    assert {level: action.value for level, action in snapshot.levels.items()} == {
        "clean": "redirect",
        "unknown": "warn",
        "suspicious": "lock",
        "malicious": "block",
    }
    page = await browser.page("/settings")
    assert 'value="#aa3300"' in page and chosen["block_url"] in page
    assert '<option value="lock" selected>' in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"accent": "red"},
        {"accent": "#12345g"},
        {"block_url": "javascript:alert(1)"},
        {"block_url": "intranet/blocked"},
        {"block_url": "https://user:word@nordwind.example/"},
        {"unknown": "lock"},
        {"malicious": "redirect"},
        {"suspicious": "ignore"},
    ],
)
async def test_what_is_no_colour_no_page_and_no_action_is_refused(console: Console, wrong: dict[str, str]) -> None:
    tenant_id, browser, _ = await make_estate(console)
    await browser.page("/settings")
    before = await PolicyService(console.database).snapshot(tenant_id)
    assert (await browser.post("/settings/organisation", {"name": "Nordwind AG", **wrong})).status_code == 400
    after = await PolicyService(console.database).snapshot(tenant_id)
    assert (after.name, after.words, after.levels) == (before.name, before.words, before.levels)


async def test_who_does_not_configure_changes_no_logo(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    await browser.page("/settings")
    analyst = await console.signed_in(tenant_id, Role.ANALYST)
    assert (await upload(analyst, picture(300, 80))).status_code == 403
    assert (await browser.get("/settings/logo")).status_code == 404
