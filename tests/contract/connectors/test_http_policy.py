"""The shared HTTP policy, against a real server that answers what a test tells it to."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from connectors.base.errors import Throttled, TooLarge, Unavailable
from connectors.base.http import HttpPolicy, SharedHttp, retry_after_seconds


@dataclass
class Script:
    """A server: the answers to come, the paths asked for, and how many requests were under way at most."""

    url: str = ""
    answers: list[Response] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    delay: float = 0.0

    async def serve(self, request: Request) -> Response:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            self.asked.append(f"{request.method} {request.url.path} {(await request.body()).decode()}".strip())
            await asyncio.sleep(self.delay)
            return self.answers.pop(0) if self.answers else Response("fine")
        finally:
            self.under_way -= 1


@pytest.fixture(scope="module")
def server() -> Iterator[Script]:
    made = Script()
    listener = socket.create_server(("127.0.0.1", 0))
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = Starlette(routes=[Route("/{path:path}", made.serve, methods=["GET", "POST", "PATCH"])])
    serving = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield made
    serving.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def script(server: Script) -> Script:
    while server.under_way:  # what an earlier test gave up must not count here
        time.sleep(0.01)
    server.answers, server.asked, server.most, server.delay = [], [], 0, 0.0
    return server


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def shared(time: Time, policy: HttpPolicy | None = None) -> SharedHttp:
    return SharedHttp(policy, clock=time.clock, sleep=time.sleep, jitter=lambda: 0.5)


async def get(http: SharedHttp, script: Script, mailbox: str = "ada", *, read: bool = True) -> httpx.Response:
    request = httpx.Request("GET", f"{script.url}/{mailbox}")
    return await http.send(request, mailbox=mailbox, read=read, what="testing")


def busy(status: int = 429, **headers: str) -> Response:
    return Response(status_code=status, headers={name.replace("_", "-"): text for name, text in headers.items()})


async def test_retry_after_is_waited_out_exactly(script: Script) -> None:
    time = Time()
    script.answers = [busy(retry_after="7"), busy(503, retry_after="2")]
    async with shared(time) as http:
        assert (await get(http, script)).text == "fine"

    assert time.slept == [7.0, 2.0]


async def test_a_long_retry_after_is_raised_and_nothing_is_sent_until_it_has_passed(script: Script) -> None:
    time = Time()
    script.answers = [busy(retry_after="120")]
    async with shared(time) as http:
        with pytest.raises(Throttled) as first:
            await get(http, script)
        time.now += 100
        with pytest.raises(Throttled) as second:
            await get(http, script)
        assert len(script.asked) == 1
        assert http.throttled_for("ada") == pytest.approx(20)
        time.now += 20
        assert (await get(http, script)).text == "fine"

    assert (first.value.retry_after, second.value.retry_after) == (120.0, pytest.approx(20))
    assert time.slept == []


async def test_one_throttled_mailbox_holds_back_no_other(script: Script) -> None:
    time = Time()
    script.answers = [busy(retry_after="120")]
    async with shared(time) as http:
        with pytest.raises(Throttled):
            await get(http, script, "ada")
        assert (await get(http, script, "ben")).text == "fine"


async def test_a_throttle_without_a_time_gets_the_default(script: Script) -> None:
    time = Time()
    script.answers = [busy()]
    async with shared(time, HttpPolicy(default_retry_after=3)) as http:
        await get(http, script)

    assert time.slept == [3.0]


async def test_server_errors_are_read_again_with_growing_random_waits(script: Script) -> None:
    time = Time()
    script.answers = [busy(500), busy(502), busy(503)]
    async with shared(time, HttpPolicy(backoff_first=1, backoff_cap=3)) as http:
        assert (await get(http, script)).text == "fine"

    assert time.slept == [0.5, 1.0, 1.5]


async def test_reads_are_given_up_after_the_last_attempt(script: Script) -> None:
    script.answers = [busy(500)] * 9
    async with shared(Time()) as http:
        with pytest.raises(Unavailable):
            await get(http, script)

    assert len(script.asked) == 4


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (busy(500), Unavailable),
        (busy(504), Unavailable),
        (busy(429, retry_after="1"), Throttled),
        (busy(503, retry_after="1"), Throttled),
    ],
)
async def test_a_write_is_sent_once(script: Script, answer: Response, error: type[Exception]) -> None:
    script.answers = [answer]
    async with shared(Time()) as http:
        with pytest.raises(error):
            await get(http, script, read=False)

    assert len(script.asked) == 1


async def test_an_answer_that_does_not_come_is_unavailable(script: Script) -> None:
    script.delay = 0.5
    async with shared(Time(), HttpPolicy(read_timeout=0.05, read_attempts=2)) as http:
        with pytest.raises(Unavailable, match="ReadTimeout after 2"):
            await get(http, script)
        with pytest.raises(Unavailable, match="ReadTimeout after 1"):
            await get(http, script, read=False)


async def test_a_refused_connection_is_unavailable() -> None:
    time = Time()
    async with shared(time) as http:
        with pytest.raises(Unavailable, match="4 attempt"):
            await get(http, Script(url="http://127.0.0.1:9"))

    assert len(time.slept) == 3


async def test_a_body_is_sent_whole_at_every_attempt(script: Script) -> None:
    script.answers = [busy(500)]
    async with shared(Time()) as http:
        request = httpx.Request("POST", f"{script.url}/x", content=b"body")
        await http.send(request, mailbox="ada", read=True, what="testing")

    assert script.asked == ["POST /x body", "POST /x body"]


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 412])
async def test_other_answers_are_the_callers_to_judge(script: Script, status: int) -> None:
    script.answers = [Response(status_code=status, headers={"location": "http://127.0.0.1:9/"})]
    async with shared(Time()) as http:
        assert (await get(http, script)).status_code == status

    assert len(script.asked) == 1


async def test_at_most_four_requests_of_a_mailbox_are_under_way(script: Script) -> None:
    script.delay = 0.02
    async with SharedHttp() as http:
        await asyncio.gather(*(get(http, script) for _ in range(20)))
        assert script.most == 4
        script.most = 0
        await asyncio.gather(*(get(http, script, f"mailbox {n}") for n in range(12)))

    assert script.most > 4


async def test_idle_mailboxes_are_forgotten(script: Script) -> None:
    async with SharedHttp() as http:
        await asyncio.gather(*(get(http, script, f"mailbox {n}") for n in range(50)))

        assert http._gates == {}


async def test_an_answer_that_goes_on_and_on_is_cut_off(script: Script) -> None:
    async def long() -> AsyncIterator[bytes]:
        for _ in range(500):
            yield b"x" * 10_000
            await asyncio.sleep(0)

    script.answers = [StreamingResponse(long())]
    async with shared(Time(), HttpPolicy(max_response_bytes=100_000)) as http:
        with pytest.raises(TooLarge):
            await get(http, script)


async def test_a_bomb_is_measured_unpacked(script: Script) -> None:
    import gzip

    packed = gzip.compress(b"\0" * 10_000_000)
    assert len(packed) < 100_000
    script.answers = [Response(packed, headers={"content-encoding": "gzip"})]
    async with shared(Time(), HttpPolicy(max_response_bytes=1_000_000)) as http:
        with pytest.raises(TooLarge):
            await get(http, script)


async def test_a_packed_answer_is_unpacked_once(script: Script) -> None:
    import gzip

    script.answers = [Response(gzip.compress(b"hello"), headers={"content-encoding": "gzip", "x-a": "b"})]
    async with shared(Time()) as http:
        answer = await get(http, script)

    assert (answer.text, answer.headers["x-a"]) == ("hello", "b")


async def test_a_provider_can_read_its_own_throttling(script: Script) -> None:
    time = Time()
    script.answers = [busy(403)]
    async with shared(time) as http:
        answer = await http.send(
            httpx.Request("GET", script.url),
            mailbox="ada",
            read=True,
            what="testing",
            throttle=lambda response: 4.0 if response.status_code == 403 else None,
        )

    assert (answer.text, time.slept) == ("fine", [4.0])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 0.5 ", 0.5),
        ("Sat, 21 Nov 2026 10:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
        ("\u0665", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, wall_clock=lambda: 1795255200.0) == seconds
