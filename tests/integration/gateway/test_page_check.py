"""Looking at the page behind a link: redirects, sign-in pages, slow pages, links that work once."""

from __future__ import annotations

import http.server
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.kit.addresses import IPAddress
from app.kit.crypto import KeyRing
from app.kit.safe_http import FetchLimits, SafeFetcher
from app.kit.spool_reader import SpoolReader
from app.policy.engine import ListRule, PolicySnapshot
from app.verdicts.inspect import inspect_url
from app.verdicts.scoring import Level
from tests.integration.gateway.serving import Served, serve

LOGIN = "<title>{0} - Sign in</title><form action='{1}'><input name=email><input type=password name=p></form>"
PLAIN = "<title>News</title><p>Ordinary words about ordinary things, more than enough of them to be a page.</p>"


@dataclass
class Web:
    """All sites of the test, on one port of loopback."""

    port: int = 0
    pages: dict[str, str | Callable[[], str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, rest: str) -> str:
        host, slash, path = rest.partition("/")
        return f"http://{host}:{self.port}{slash}{path}"


@pytest.fixture
def web() -> Iterator[Web]:
    state = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.headers["Host"].partition(":")[0] + self.path
            state.asked.append(name)
            if name in state.moved:
                self.send_response(302)
                self.send_header("Location", state.moved[name])
                self.end_headers()
                return
            found = state.pages.get(name, PLAIN)
            body = (found if isinstance(found, str) else found()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


async def loopback(host: str, port: int) -> list[IPAddress]:
    return [ipaddress.ip_address("127.0.0.1")]


@contextmanager
def gateway(folder: Path, keyring: KeyRing, web: Web, *rules: ListRule, failure: str = "open") -> Iterator[Served]:
    limits = FetchLimits(ports=frozenset({web.port, 80}), allowed=(ipaddress.ip_network("127.0.0.1/32"),), seconds=20)
    snapshot = PolicySnapshot(1001, name="Contoso", rules=rules, failure=failure)
    with serve(folder, keyring, snapshots=(snapshot,), fetcher=SafeFetcher(limits, loopback)) as served:
        yield served


def follow(client: httpx.Client, link: str) -> httpx.Response:
    """Open a link as a browser does that obeys ``Refresh``."""
    answer = client.get(link)
    while "refresh" in answer.headers:
        again = re.fullmatch(r"1; url=(\?wait=[0-9])", answer.headers["refresh"])
        assert again is not None
        answer = client.get(link + again[1])
    return answer


def actions(served: Served) -> list[str]:
    folder = served.gateway.deps.spool.folder
    return [json.loads(text)["action"] for batch in SpoolReader(folder).batches() for text in batch.payloads]


def test_a_sign_in_page_in_anothers_name_is_warned_of(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    web.pages["files.example/doc"] = LOGIN.format("PayPal", "")
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        page = follow(client, served.link(web.url("files.example/doc")))
        assert page.status_code == 403 or page.status_code == 200
        assert "asks for a password, but it does not belong to Paypal" in page.text
        assert "location" not in page.headers


def test_what_lies_behind_redirects_is_judged(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    web.moved["short.example/x"] = web.url("middle.example/y")
    web.moved["middle.example/y"] = web.url("evil.example/end")
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        served.list_as("malicious", "evil.example")
        page = follow(client, served.link(web.url("short.example/x")))
        assert page.status_code == 403
        assert "<b>evil.example</b>" in page.text


def test_a_block_entry_counts_for_where_a_link_ends(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    web.moved["short.example/x"] = web.url("casino.example/")
    rule = ListRule(1, "block", "wildcard", "casino.example")
    with gateway(tmp_path, keyring, web, rule) as served, httpx.Client() as client:
        assert follow(client, served.link(web.url("short.example/x"))).status_code == 403


def test_an_ordinary_page_is_opened_and_looked_at_once(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        for message in (1, 2, 3):
            link = served.link(web.url("news.example/a"), message_no=message)
            assert follow(client, link).headers["location"] == web.url("news.example/a")
    assert web.asked == ["news.example/a"]


@pytest.mark.parametrize("path", ["reset?u=1", "a?token=abcdef123456", "c/4f8a9b2c7d1e6f3a5b8c9d0e", "unsubscribe"])
def test_a_link_that_works_once_is_never_fetched(tmp_path: Path, keyring: KeyRing, web: Web, path: str) -> None:
    web.moved["track.example/r"] = web.url(f"app.example/{path}")
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        assert follow(client, served.link(web.url(f"app.example/{path}"))).status_code == 302
        assert web.asked == []
        assert follow(client, served.link(web.url("track.example/r"))).status_code == 302
    assert web.asked == ["track.example/r"]


def test_lists_decide_without_a_look(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    rules = (ListRule(1, "allow", "wildcard", "good.example"), ListRule(2, "block", "wildcard", "bad.example"))
    with gateway(tmp_path, keyring, web, *rules) as served, httpx.Client() as client:
        served.list_as("malicious", "listed.example")
        assert client.get(served.link(web.url("good.example/"))).status_code == 302
        assert client.get(served.link(web.url("bad.example/"))).status_code == 403
        assert client.get(served.link(web.url("listed.example/"))).status_code == 403
    assert web.asked == []


def test_a_slow_page_shows_a_waiting_page_that_goes_on_by_itself(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    release = threading.Event()

    def slow() -> str:
        release.wait(30)
        return LOGIN.format("Microsoft", "https://thief.example/")

    web.pages["slow.example/"] = slow
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        link = served.link(web.url("slow.example/"))
        waiting = client.get(link)
        assert waiting.status_code == 200
        assert 'data-page="wait"' in waiting.text
        assert waiting.headers["refresh"] == "1; url=?wait=1"
        release.set()
        assert follow(client, link + waiting.headers["refresh"].partition("url=")[2]).status_code == 403
        assert actions(served) == ["wait", "block"]
    assert web.asked == ["slow.example/"]


@pytest.mark.parametrize(("failure", "status", "action"), [("open", 200, "warn"), ("closed", 403, "block")])
def test_a_page_that_never_answers_falls_under_the_failure_policy(
    tmp_path: Path, keyring: KeyRing, web: Web, failure: str, status: int, action: str
) -> None:
    release = threading.Event()

    def never() -> str:
        release.wait(30)
        return PLAIN

    web.pages["slow.example/"] = never
    with gateway(tmp_path, keyring, web, failure=failure) as served, httpx.Client() as client:
        answer = client.get(served.link(web.url("slow.example/")) + "?wait=6")
        release.set()
        assert answer.status_code == status
        assert actions(served) == [action]


def button(page: str) -> dict[str, str]:
    """The fields of the waiting page's form."""
    found = re.search(r'name="act" value="(open)"><input type="hidden" name="key" value="([^"]+)"', page)
    assert found is not None
    return {"act": found[1], "key": found[2]}


def test_a_person_may_open_without_waiting_and_that_is_recorded(tmp_path: Path, keyring: KeyRing, web: Web) -> None:
    release = threading.Event()

    def slow() -> str:
        release.wait(30)
        return PLAIN

    web.pages["slow.example/"] = slow
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        link = served.link(web.url("slow.example/"))
        fields = button(client.get(link).text)
        opened = client.post(link + "?wait=1", data=fields)
        assert (opened.status_code, opened.headers["location"]) == (303, web.url("slow.example/"))
        other = served.link(web.url("slow.example/"), message_no=8)
        assert client.post(other, data=fields).status_code == 400, "a button is good for its own link"
        release.set()
        assert actions(served) == ["wait", "early"]


def test_what_was_found_meanwhile_is_not_opened_by_the_waiting_pages_button(
    tmp_path: Path, keyring: KeyRing, web: Web
) -> None:
    release = threading.Event()

    def slow() -> str:
        release.wait(30)
        return PLAIN

    web.pages["slow.example/"] = slow
    with gateway(tmp_path, keyring, web) as served, httpx.Client() as client:
        link = served.link(web.url("slow.example/"))
        fields = button(client.get(link).text)
        served.list_as("suspicious", "slow.example")
        answer = client.post(link, data=fields)
        release.set()
        assert answer.status_code == 200
        assert 'data-page="warn"' in answer.text
        assert actions(served) == ["wait", "warn"]


@pytest.mark.parametrize(("failure", "level"), [("closed", ""), ("open", "suspicious")])
def test_nobody_opens_without_waiting_what_the_failure_policy_would_not_open(
    tmp_path: Path, keyring: KeyRing, web: Web, failure: str, level: str
) -> None:
    release = threading.Event()

    def slow() -> str:
        release.wait(30)
        return PLAIN

    web.pages["slow.example/"] = slow
    with gateway(tmp_path, keyring, web, failure=failure) as served, httpx.Client() as client:
        if level:
            served.list_as(level, "slow.example")
        waiting = client.get(served.link(web.url("slow.example/")))
        release.set()
        assert 'data-page="wait"' in waiting.text
        assert "Open without waiting" not in waiting.text


def test_an_inspection_that_may_go_online_sees_the_page(web: Web) -> None:
    web.moved["short.example/x"] = web.url("files.example/doc")
    web.pages["files.example/doc"] = LOGIN.format("PayPal", "https://thief.example/")
    limits = FetchLimits(ports=frozenset({web.port}), allowed=(ipaddress.ip_network("127.0.0.1/32"),))
    url = web.url("short.example/x")
    found = inspect_url(url, offline=False, fetcher=SafeFetcher(limits, loopback))
    assert found.chain == (url, web.url("files.example/doc"))
    assert found.verdict.level is Level.MALICIOUS
    assert found.as_json()["offline"] is False
    assert web.asked == ["short.example/x", "files.example/doc"]
    assert inspect_url(url).verdict.level is Level.UNKNOWN
    assert len(web.asked) == 2


def test_an_inspection_that_may_go_online_is_not_led_inside(web: Web) -> None:
    found = inspect_url(f"http://127.0.0.1:{web.port}/", offline=False)
    assert web.asked == []
    assert "cannot_see_error" in {signal.code for signal in found.verdict.signals}
