"""Attacks on the gateway: forged tokens, hostile text, other sites' forms, what it must not import."""

from __future__ import annotations

import base64
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.gateway.app import Gateway
from app.gateway.limits import Limits
from app.kit.crypto import KeyRing
from app.links.mint import Minter
from app.policy.engine import ListRule, PageWords, PolicySnapshot
from tests.integration.gateway.serving import Served, serve

GENEROUS = Limits(per_token=10**6, per_address=10**6, broken_per_address=10**6)
XSS = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}${7*7}"


@pytest.fixture
def served(tmp_path: Path, keyring: KeyRing) -> Iterator[Served]:
    hostile = PolicySnapshot(
        1001,
        name=f"Contoso{XSS}",
        rules=(ListRule(1, "lock", "wildcard", "held.example"), ListRule(2, "block", "re2", "<script>|barred")),
        words=PageWords(contact=XSS, note=XSS, accent=f"red;}}</style>{XSS}", block_url="javascript:alert(1)"),
    )
    with serve(tmp_path, keyring, snapshots=(hostile,), limits=GENEROUS) as running:
        running.list_as("malicious", "evil.example")
        running.list_as("suspicious", "odd.example")
        yield running


def forgeries(link: str, randomness: random.Random) -> Iterator[str]:
    """Links that are nearly genuine, and some that are not near at all."""
    base, host, token = link.rsplit("/", 2)
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    def joined(host: str, changed: bytes) -> str:
        return f"{base}/{host}/{base64.urlsafe_b64encode(changed).rstrip(b'=').decode()}"

    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            yield joined(host, bytes(changed))
    for position, character in enumerate(token):
        for _ in range(8):
            other = randomness.choice(alphabet.replace(character, ""))
            yield f"{base}/{host}/{token[:position]}{other}{token[position + 1 :]}"
    for length in range(len(data)):
        yield joined(host, data[:length])
        yield joined(host, data + randomness.randbytes(1 + length % 9))
    while True:
        kind = randomness.randrange(4)
        if kind == 0:
            yield joined(host, data[:6] + randomness.randbytes(randomness.randrange(20, 200)))
        elif kind == 1:
            yield joined(host, randomness.randbytes(randomness.randrange(0, 200)))
        elif kind == 2:
            other_host = randomness.choice(["evil.example", "good.exampl", "good.example.evil.example", "link"])
            yield f"{base}/{other_host}/{token}"
        else:
            middle = randomness.randrange(6, len(data) - 1)
            yield joined(host, data[:middle] + randomness.randbytes(1) + data[middle:])


async def test_ten_thousand_forged_links_lead_nowhere(served: Served) -> None:
    genuine = served.link("https://good.example/path?x=1#y")
    made: set[str] = set()
    for forged in forgeries(genuine, random.Random(5)):
        if forged != genuine:
            made.add(forged)
        if len(made) == 10_000:
            break
    # All of them through the application itself, and a part of them through the server, too.
    for forged in made:
        status, headers = await _ask(served.gateway, forged.removeprefix(served.url))
        assert (status, b"location" in headers) == (404, False)
    async with httpx.AsyncClient() as client:
        for forged in sorted(made)[::50]:
            answer = await client.get(forged)
            assert (answer.status_code, "location" in answer.headers) == (404, False)
        assert (await client.get(genuine)).status_code == 302
    assert served.gateway.deps.spool.stats.written == 1


async def _ask(gateway: Gateway, path: str) -> tuple[int, dict[bytes, bytes]]:
    """One GET through the ASGI interface."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("192.0.2.1", 1)}
    await gateway(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


def test_a_token_of_another_installation_or_tenant_does_not_open(served: Served) -> None:
    foreign = Minter(KeyRing({1: bytes(range(1, 33))}), served.url, "l", tenant_no=1001)
    assert httpx.get(foreign.mint("https://good.example/", b"x", "anchor")).status_code == 404
    link = served.link("https://good.example/")
    base, token = link.rsplit("/", 1)
    data = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    data[2:6] = (1002).to_bytes(4, "big")
    moved = base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode()
    assert httpx.get(f"{base}/{moved}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/?url=https://evil.test/",
        "/l/https://evil.test/",
        "/l//evil.test",
        "/l/evil.test/%0d%0aLocation:%20https://evil.test/",
        "//evil.test/",
        "/\\evil.test/",
        "/explain?link=https://evil.test/&url=https://evil.test/",
        "/l/evil.test/..%2f..%2f..%2fetc%2fpasswd",
        "/static/../../etc/passwd",
    ],
)
def test_nothing_but_a_genuine_link_redirects(served: Served, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = httpx.request(
            method, served.url + path, headers={"host": "evil.test", "x-forwarded-host": "evil.test"}
        )
        assert answer.status_code < 300 or answer.status_code >= 400
        assert "location" not in answer.headers
        assert "evil.test" not in answer.text or path.startswith("/explain")


@pytest.mark.parametrize(
    "url",
    [
        f"https://evil.example/{XSS}",
        f"https://odd.example/?q={XSS}#{XSS}",
        f"https://held.example/{XSS}",
        f"javascript:{XSS}",
        f"http://[{XSS}",
        "https://odd.example/%3Cscript%3Ealert(1)%3C/script%3E",
        "https://xn--pypal-4ve.com/<script>",
    ],
)
def test_hostile_text_stays_text_on_every_page(served: Served, url: str) -> None:
    answer = httpx.get(served.link(url))
    assert answer.status_code in (200, 403)
    assert "<script>alert" not in answer.text
    assert re.findall("<img[^>]*", answer.text) == re.findall(r'<img src="/l/-/seen-[\w.-]+\.gif" [^>]*', answer.text)
    assert answer.text.count("<script>") == 1
    assert answer.text.count("</style>") == 1
    assert "49" not in re.sub(r"[0-9a-f.]{8,}\S*", "", answer.text) or "{{7*7}}" in answer.text
    explained = httpx.post(served.url + "/explain", data={"link": served.link(url)}).text
    assert "<script>" not in explained
    assert "<img" not in explained


def test_pages_carry_a_strict_policy_and_call_nobody(served: Served) -> None:
    links = [served.link(f"https://{host}/") for host in ("evil.example", "odd.example", "held.example")]
    for url in (*links, served.url + "/explain", served.url + "/l/x/y", served.url + "/nothing"):
        answer = httpx.get(url)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert len(answer.content) < 30_000
        assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", answer.text)
        assert "url(" not in answer.text
        assert "@import" not in answer.text
        assert " on" not in re.sub(r">[^<]*<", "><", answer.text).replace(" onward", "")


def _key(page: str, act: str) -> str:
    match = re.search(rf'name="act" value="{act}"><input type="hidden" name="key" value="([^"]+)"', page)
    assert match is not None
    return match[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"content-type": "text/plain"},
        {"content-type": "application/json"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
def test_another_sites_form_presses_no_button(served: Served, headers: dict[str, str]) -> None:
    link = served.link("https://odd.example/")
    key = _key(httpx.get(link).text, "continue")
    before = served.gateway.deps.spool.stats.written
    answer = httpx.post(
        link,
        content=f"act=continue&key={key}",
        headers={"content-type": "application/x-www-form-urlencoded", **headers},
    )
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert served.gateway.deps.spool.stats.written == before


def test_a_button_of_one_link_works_for_no_other(served: Served) -> None:
    mine, other = served.link("https://odd.example/mine"), served.link("https://odd.example/other")
    key = _key(httpx.get(mine).text, "continue")
    assert httpx.post(other, data={"act": "continue", "key": key}).status_code == 400
    assert httpx.post(mine, data={"act": "release", "key": key}).status_code == 400
    assert httpx.post(mine, data={"act": "continue", "key": key}).status_code == 303


def test_there_is_no_way_through_a_block_page(served: Served) -> None:
    warned = served.link("https://odd.example/")
    blocked = served.link("https://evil.example/")
    key = _key(httpx.get(warned).text, "continue")
    for given in (key, "", "ffffffff.AAAA", "1" * 6_000):
        answer = httpx.post(blocked, data={"act": "continue", "key": given})
        assert answer.status_code == 400
        assert "location" not in answer.headers


def test_a_huge_or_odd_form_is_refused(served: Served) -> None:
    link = served.link("https://odd.example/")
    for body in (b"x" * 100_000, b"&" * 8_000, b"act=continue&key=" + b"\xff" * 100, b"%" * 500, b""):
        answer = httpx.post(link, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
        assert answer.status_code == 400


def test_the_gateway_imports_no_provider_and_no_connector() -> None:
    code = (
        "import sys, app.gateway.app, app.gateway.runtime\n"
        "bad = ('connectors', 'msgraph', 'kiota', 'azure', 'googleapiclient', 'google.auth', 'fastapi', 'cv2')\n"
        "print([m for m in sys.modules if any(m == b or m.startswith((b + '.', b + '_')) for b in bad)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert done.stdout.decode().strip() == "[]"
