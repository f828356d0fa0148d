"""The client that asks the servers of sources: what it hands out is closed whatever happens; who failed is named."""

from __future__ import annotations

import asyncio
import ipaddress
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest

from app.kit.addresses import IPAddress
from app.kit.db import Database
from app.verdicts.sources.client import HttpSourceClient
from app.verdicts.sources.lists import FileList
from app.verdicts.sources.misp import MispFeed
from app.verdicts.sources.refresh import Refresher
from app.verdicts.sources.service import add_source, new_config
from app.verdicts.sources.types import Download, SourceConfig, SourceFailed
from app.verdicts.waiting import all_of
from tests.integration.verdicts.loopback import Asked, Reply, loopback_client, serve

pytestmark = pytest.mark.anyio
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
LONG = b"a.example\n" * 200_000
"""Longer than what is kept in memory."""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every temporary file of the client; at the end each of them must be closed."""
    made: list[Any] = []

    def make(*args: Any, **values: Any) -> Any:
        made.append(SpooledTemporaryFile(*args, **values))  # noqa: SIM115 - who asked for it closes it
        return made[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", make)
    yield made
    left = [file for file in made if not file.closed]
    for file in left:
        file.close()
    assert not left


def client() -> HttpSourceClient:
    """One that finds every name on this machine."""

    async def find(host: str, port: int) -> list[IPAddress]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            return [ipaddress.ip_address("127.0.0.1")]

    return HttpSourceClient(LOOPBACK, resolver=find)


class Stalling:
    """A server whose answer begins and does not go on before it is let."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def answer(self, _: Asked) -> Reply:
        self.asked.set()
        assert self.go_on.wait(60)
        return Reply(LONG)


async def test_a_file_is_there_for_as_long_as_it_is_asked_for(files: list[Any]) -> None:
    with serve(lambda _: Reply(LONG)) as web:
        async with loopback_client().fetch(web.url) as fetched:
            body = fetched.body
            assert body.read() == LONG
    assert body.closed
    assert len(files) == 1


@pytest.mark.parametrize("reply", [Reply(status=503), Reply(LONG, headers={"Content-Encoding": "gzip"}), None])
async def test_an_answer_that_fails_leaves_no_file(files: list[Any], reply: Reply | None) -> None:
    with serve(lambda _: Reply(LONG)) as web:
        web.faults.append(reply)
        with pytest.raises(SourceFailed):
            async with loopback_client().fetch(web.url):
                raise AssertionError("nothing came")
    assert len(files) == 1


async def test_a_reader_that_fails_leaves_no_file(files: list[Any]) -> None:
    with serve(lambda _: Reply(LONG)) as web, pytest.raises(ZeroDivisionError):
        async with loopback_client().fetch(web.url):
            raise ZeroDivisionError
    assert len(files) == 1


async def test_a_question_that_is_given_up_leaves_no_file(files: list[Any]) -> None:
    server = Stalling()
    with serve(server.answer) as web:
        asking = asyncio.create_task(_read(loopback_client(), web.url))
        try:
            assert await asyncio.to_thread(server.asked.wait, 60)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        finally:
            server.go_on.set()
    assert len(files) == 1


async def _read(asker: HttpSourceClient, url: str) -> bytes:
    async with asker.fetch(url) as fetched:
        return fetched.body.read()


async def test_a_list_that_nobody_reads_leaves_no_file(files: list[Any]) -> None:
    with serve(lambda _: Reply(LONG)) as web:
        source = FileList(SourceConfig("L", "list", web.url), "")
        async with source.download(loopback_client(), None) as download:
            pass
        with pytest.raises(ValueError, match="closed file"):
            list(download.entries)
    assert len(files) == 1


@pytest.mark.parametrize("how", ["state", "reading", "cancelled"])
async def test_a_refresh_that_breaks_off_leaves_no_file(
    files: list[Any], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    reached = asyncio.Event()

    async def broken(self: Refresher, config: SourceConfig, download: Download, before: int) -> None:
        if how == "state":
            raise SourceFailed("The source wants too much to be remembered for it.", reason="format")
        if how == "reading":
            next(iter(download.entries))
            raise ZeroDivisionError
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Refresher, "_take", broken)
    with serve(lambda _: Reply(LONG)) as web:
        async with database.untenanted() as session:
            await add_source(session, new_config("list", "L", address=web.url, enabled=True))
        refreshing = asyncio.create_task(Refresher(database, loopback_client(), tmp_path).refresh("L"))
        if how == "cancelled":
            await asyncio.wait_for(reached.wait(), 60)
            refreshing.cancel()
        (outcome,) = await asyncio.gather(refreshing, return_exceptions=True)
    if how == "state":
        assert getattr(outcome, "outcome", "") == "failed"
    else:
        assert isinstance(outcome, ZeroDivisionError if how == "reading" else asyncio.CancelledError)
    assert len(files) == 1


async def test_where_one_question_fails_the_others_are_given_up() -> None:
    ended: list[str] = []

    @asynccontextmanager
    async def noted(name: str) -> AsyncIterator[None]:
        try:
            yield
        finally:
            ended.append(name)

    async def waits() -> None:
        async with noted("waits"):
            await asyncio.Event().wait()

    async def fails() -> None:
        async with noted("fails"):
            await asyncio.sleep(0)
            raise SourceFailed("no", reason="status")

    with pytest.raises(SourceFailed):
        await all_of([waits(), fails()])
    assert sorted(ended) == ["fails", "waits"]


async def test_an_event_that_fails_ends_the_questions_for_the_others() -> None:
    uuids = [f"5f9d88a9-0b9c-4b0e-8e55-3d1f0000000{number}" for number in range(3)]
    others, go_on = threading.Semaphore(0), threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("manifest.json"):
            return Reply.of({uuid: {"timestamp": "1", "date": "2999-01-01"} for uuid in uuids})
        if asked.path.endswith(f"{uuids[0]}.json"):
            for _ in uuids[1:]:
                assert others.acquire(timeout=60)
            return Reply(status=404)
        others.release()
        assert go_on.wait(60)
        return Reply.of({"Event": {}})

    with serve(answer) as web:
        try:
            before = asyncio.all_tasks()
            with pytest.raises(SourceFailed, match="404"):
                await MispFeed(new_config("misp", address=web.url), "").poll(loopback_client(), None)
            assert asyncio.all_tasks() <= before
        finally:
            go_on.set()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=503), "second.example answered with error 503"),
        (Reply(LONG, headers={"Content-Encoding": "gzip"}), "The answer of second.example cannot be unpacked"),
        (None, "The answer of second.example was cut off"),
        (Reply(status=404), r"L \(second.example\) answered with status 404"),
        (Reply(status=403), r"L \(second.example\) answered with status 403: no key was sent there"),
        (Reply(status=302, headers={"Location": "http://10.0.0.1:1/"}), "The server 10.0.0.1 is in a network"),
    ],
)
async def test_of_a_redirect_that_fails_the_server_is_named_that_failed(reply: Reply | None, words: str) -> None:
    with serve(lambda _: Reply(LONG)) as web:
        port = web.url.rpartition(":")[2]
        web.faults += [Reply(status=302, headers={"Location": f"http://second.example:{port}/list"}), reply]
        source = FileList(SourceConfig("L", "list", f"http://first.example:{port}/list"), "")
        with pytest.raises(SourceFailed, match=words):
            async with source.download(client(), None):
                raise AssertionError("nothing came")


async def test_a_server_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(SourceFailed, match=r"^first\.example could not be reached\.$"):
        await client().request("GET", "http://first.example:1/list")


async def test_a_full_disk_is_not_taken_for_a_fault_of_the_server(
    files: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(SpooledTemporaryFile[bytes]):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    def make(*args: Any, **values: Any) -> Any:
        files.append(Full(*args, **values))
        return files[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", make)
    with serve(lambda _: Reply(LONG)) as web, pytest.raises(SourceFailed) as failed:
        await _read(HttpSourceClient(LOOPBACK, folder=tmp_path), web.url)
    assert failed.value.reason == "disk"
    assert "cannot be kept here: No space left on device" in str(failed.value)
    assert len(files) == 1
