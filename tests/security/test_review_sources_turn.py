"""Threat sources, the look at pages and the pictures of the gateway under attack: what strangers can send."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import ipaddress
import json
import re
import socket
import threading
from pathlib import Path

import httpx
import pytest

from app.gateway.limits import Limits
from app.kit.addresses import IPAddress
from app.kit.crypto import KeyRing
from app.kit.errors import Refused
from app.kit.safe_http import FetchLimits, SafeFetcher
from app.kit.spool_reader import SpoolReader
from app.policy.engine import PolicySnapshot
from app.settings import Settings
from app.verdicts import asking, page_check
from app.verdicts.asking import CONFIGS, open_desk
from app.verdicts.feed import FeedFile
from app.verdicts.feed_formats import entries
from app.verdicts.landing import MAX_TAGS, page_signals
from app.verdicts.page_check import PageCheck
from app.verdicts.scoring import Signal
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import SourceFailed, Tally
from tests.integration.gateway.serving import serve
from tests.integration.verdicts.loopback import Reply, loopback_client
from tests.integration.verdicts.loopback import serve as serve_pages

HUGE = "a" * 200_000


# -- lists


@pytest.mark.parametrize(
    "text",
    [
        "url,confidence_level\nhttp://bad.example/,\u00b2\n",
        "url,confidence_level\nhttp://bad.example/," + "9" * 5_000 + "\n",
        '[{"url":"http://bad.example/","confidence_level":"\u0662\u00b2"}]',
        f"# {HUGE},{HUGE}\nurl,dateadded\nhttp://bad.example/,2026-01-01\n",
    ],
)
def test_odd_numbers_and_huge_headers_do_not_end_the_reading_of_a_list(text: str) -> None:
    found = list(entries(text.splitlines(keepends=True), "auto", Tally()))
    assert [entry.value for entry in found] == ["http://bad.example/"]


def test_a_list_whose_header_is_one_huge_field_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="no header"):
        list(entries([f"url,{HUGE}\n", "http://bad.example/,1\n"], "csv", Tally()))


@pytest.mark.anyio
async def test_a_compressed_answer_of_several_members_is_read_to_its_end() -> None:
    members = gzip.compress(b"one.example\n", mtime=0) + gzip.compress(b"two.example\n") + bytes(512)
    with serve_pages(lambda _: Reply(members, headers={"Content-Encoding": "gzip"})) as web:
        answer = await loopback_client().request("GET", web.url + "/list")
        assert answer.content == b"one.example\ntwo.example\n"


@pytest.mark.anyio
@pytest.mark.parametrize("tail", [gzip.compress(b"two.example\n", mtime=0)[:-6], b"<html>trailing"])
async def test_a_compressed_answer_whose_later_member_is_broken_is_not_used(tail: bytes) -> None:
    cut = gzip.compress(b"one.example\n", mtime=0) + tail
    reply = Reply(cut, headers={"Content-Encoding": "gzip"})
    with serve_pages(lambda _: reply) as web, pytest.raises(SourceFailed) as failed:
        await loopback_client().request("GET", web.url + "/list")
    assert failed.value.reason == "cut_off"


@pytest.mark.anyio
async def test_other_work_goes_on_while_a_bomb_is_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20), 9, mtime=0)
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    with serve_pages(lambda _: Reply(bomb, headers={"Content-Encoding": "gzip"})) as web:
        working = asyncio.create_task(other_work())
        with pytest.raises(SourceFailed, match="larger than"):
            await loopback_client().request("GET", web.url + "/list", max_bytes=48 << 20)
        working.cancel()
    assert turns >= 40


@pytest.mark.anyio
async def test_a_key_that_no_header_can_hold_is_refused_without_showing_it() -> None:
    with serve_pages(lambda _: Reply(b"")) as web, pytest.raises(SourceFailed) as failed:
        await loopback_client().request("GET", web.url, headers={"Authorization": "hidden\u2026key"})
    assert failed.value.reason == "secret"
    assert "hidden" not in f"{failed.value!r} {failed.value.__cause__!r}"
    assert web.asked == []


# -- pages


def test_of_a_page_that_is_nothing_but_tags_a_bounded_part_is_read() -> None:
    password = b"<form><input type=password>"
    assert [signal.code for signal in page_signals(password + b"<b>" * 190_000, "https://a.example/")] == [
        "asks_password"
    ]
    assert page_signals(b"<b>" * MAX_TAGS + password, "https://a.example/") == ()
    kept = b"<i>" * (MAX_TAGS - 2) + password
    assert [signal.code for signal in page_signals(kept, "https://a.example/")] == ["asks_password"]


async def loopback(host: str, port: int) -> list[IPAddress]:
    return [ipaddress.ip_address("127.0.0.1")]


def page_checker(port: int) -> PageCheck:
    limits = FetchLimits(ports=frozenset({port}), allowed=(ipaddress.ip_network("127.0.0.1/32"),), seconds=20)
    return PageCheck(SafeFetcher(limits, loopback), FeedFile(None))


@pytest.mark.anyio
async def test_other_clicks_are_answered_while_a_page_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def slow(body: bytes, url: str, own: frozenset[str]) -> tuple[Signal, ...]:
        reading.set()
        assert go_on.wait(20)
        return page_signals(body, url, own)

    monkeypatch.setattr(page_check, "page_signals", slow)
    with serve_pages(lambda _: Reply(b"<input type=password>", headers={"Content-Type": "text/html"})) as web:
        checker = page_checker(int(web.url.rpartition(":")[2]))
        address = web.url.replace("127.0.0.1", "page.example") + "/"
        looking = asyncio.create_task(checker.check(address, 20.0))
        # Were it read by the event loop, nothing would go on here before it has been read.
        assert await asyncio.to_thread(reading.wait, 20)
        go_on.set()
        found = await looking
    assert found is not None
    assert {signal.code for signal in found.signals} >= {"password_in_clear"}


@pytest.mark.anyio
async def test_a_page_that_cannot_be_read_is_a_finding_and_takes_no_click_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(body: bytes, url: str, own: frozenset[str]) -> tuple[Signal, ...]:
        raise RecursionError

    monkeypatch.setattr(page_check, "page_signals", broken)
    with serve_pages(lambda _: Reply(b"<p>", headers={"Content-Type": "text/html"})) as web:
        checker = page_checker(int(web.url.rpartition(":")[2]))
        found = await checker.check(web.url.replace("127.0.0.1", "page.example") + "/", 20.0)
    assert found is not None
    assert found.degraded
    assert [signal.code for signal in found.signals] == ["cannot_see_error"]


# -- sources at a click


@pytest.mark.anyio
async def test_what_was_not_asked_because_of_too_many_questions_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_RUNNING", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        config = new_config("spamhaus_dbl", address="dbl.test", options={"nameservers": [server]})
        (tmp_path / "feeds").mkdir()
        configs = [{**dataclasses.asdict(config), "level": config.level.value}]
        (tmp_path / "feeds" / CONFIGS).write_text(json.dumps(configs))
        desk = open_desk(Settings(data_dir=tmp_path, _env_file=None))
        first = await desk.ask(["http://one.example/"], 0.0)
        second = await desk.ask(["http://two.example/"], 0.0)
        await desk.aclose()
    assert (first.waiting, first.degraded) == (True, False)
    assert (second.waiting, second.degraded) == (False, True)
    assert [signal.code for signal in second.signals] == ["not_asked"]


# -- the gateway


def test_a_picture_does_not_speak_about_another_tenants_click(tmp_path: Path, keyring: KeyRing) -> None:
    snapshots = (PolicySnapshot(1001, name="Contoso"), PolicySnapshot(1002, name="Fabrikam"))
    with serve(tmp_path, keyring, snapshots=snapshots) as served:
        served.list_as("malicious", "evil.example")
        page = httpx.get(served.link("https://evil.example/")).text
        name = re.search(r'src="(/l/-/seen-[^"]+)"', page)
        assert name is not None
        for other in ("1002", "999999999999999999", "01001"):
            httpx.get(served.url + name[1].replace("seen-1001-", f"seen-{other}-"))
        folder = served.gateway.deps.spool.folder
        kinds = [json.loads(text)["kind"] for batch in SpoolReader(folder).batches() for text in batch.payloads]
        assert kinds == ["click"]


@pytest.mark.parametrize(
    ("limits", "counter"), [(Limits(per_token=2), "limited"), (Limits(per_tenant=2), "limited_tenant")]
)
def test_explaining_a_link_is_bounded_as_clicking_it_is(
    tmp_path: Path, keyring: KeyRing, limits: Limits, counter: str
) -> None:
    snapshot = PolicySnapshot(1001, name="Contoso")
    with serve(tmp_path, keyring, snapshots=(snapshot,), limits=limits) as served:
        link = served.link("https://good.example/")
        forged = {"X-Forwarded-For": "192.0.2.7", "Host": "other.example"}
        answers = [
            httpx.post(f"{served.url}/explain", data={"link": link}, headers=forged).status_code for _ in range(3)
        ]
        assert answers == [200, 200, 429]
        assert httpx.get(link).status_code == 429
        assert getattr(served.gateway.stats, counter) == 2
