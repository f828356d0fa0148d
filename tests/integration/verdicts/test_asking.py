"""Signal sources at a click: what is asked when, what a slow or failing source does, and changes while running."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.kit.crypto import KeyRing
from app.policy.engine import ListRule, PolicySnapshot
from app.settings import Settings
from app.verdicts.asking import CONFIGS, SourceDesk, open_desk
from app.verdicts.inspect import inspect_url
from app.verdicts.scoring import Level
from app.verdicts.sources.files import FileSource, file_name
from app.verdicts.sources.registry import make_signal_source
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import SourceConfig
from tests.integration.gateway.serving import TENANT_NO, Served
from tests.integration.gateway.serving import serve as serve_gateway
from tests.integration.verdicts.dns_server import Zone, serve_dns
from tests.integration.verdicts.google_lists import Lists
from tests.integration.verdicts.loopback import Asked, Loopback, Reply, loopback_client, serve

EVIL = "http://evil.example/path"


class Sources:
    """The sources of a data directory, as the worker leaves them there."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "feeds"
        self.folder.mkdir(exist_ok=True)
        self.configs: list[SourceConfig] = []

    def write(self, *configs: SourceConfig) -> None:
        self.configs = list(configs)
        found = [{**dataclasses.asdict(config), "level": config.level.value} for config in configs]
        draft = self.folder / "draft.json"
        draft.write_text(json.dumps(found))
        draft.replace(self.folder / CONFIGS)

    async def renew(self, config: SourceConfig) -> None:
        source = make_signal_source(config, "the-key")
        assert isinstance(source, FileSource)
        renewed = await source.renew(loopback_client(), None)
        assert renewed.content is not None
        draft = self.folder / "draft"
        draft.write_bytes(renewed.content)
        draft.replace(self.folder / file_name(config))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("TEST_KEY", "the-key")
    monkeypatch.setenv("POSTERN_SOURCE_NETWORKS", "127.0.0.0/8")
    return Sources(tmp_path)


@pytest.fixture
def zone() -> Iterator[Zone]:
    with serve_dns() as served:
        yield served


@dataclasses.dataclass
class Google:
    """Safe Browsing v4 with what holds its answers back.

    Attributes:
        go_on: Answers about full hashes wait for it.
        was_asked: Set with the first question about full hashes.
        server: The server.
        lists: What it lists.
    """

    lists: Lists
    server: Loopback
    go_on: threading.Event
    was_asked: threading.Event

    @property
    def config(self) -> SourceConfig:
        return new_config(
            "safe_browsing_v4", address=self.server.url, secret_ref="env:TEST_KEY", options={"threats": "MALWARE"}
        )

    def searches(self) -> int:
        return self.server.paths().count("/v4/fullHashes:find")


@pytest.fixture
def google() -> Iterator[Google]:
    lists = Lists()
    lists.report("MALWARE", "evil.example/")
    go_on, was_asked = threading.Event(), threading.Event()
    go_on.set()

    def answer(asked: Asked) -> Reply:
        if asked.path.endswith(":find"):
            was_asked.set()
            assert go_on.wait(20)
        return lists.v4(asked)

    with serve(answer) as server:
        yield Google(lists, server, go_on, was_asked)
        go_on.set()


def dns_config(zone: Zone) -> SourceConfig:
    return new_config("spamhaus_dbl", address="dbl.test", options={"nameservers": [zone.address]})


Desk = Callable[[], SourceDesk]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return lambda: open_desk(Settings(data_dir=tmp_path, _env_file=None))


async def test_without_sources_nothing_is_said(desk: Desk, sources: Sources) -> None:
    asked = await desk().ask([EVIL], 1.0)
    assert (asked.signals, asked.degraded, asked.waiting) == ((), False, False)


async def test_all_sources_are_asked_about_all_addresses(
    desk: Desk, sources: Sources, google: Google, zone: Zone
) -> None:
    zone.records["other.example.dbl.test"] = ["127.0.1.4"]
    ages = new_config("domain_age", address=(sources.folder / "ages.csv").as_uri())
    (sources.folder / "ages.csv").write_text("young.example\n")
    sources.write(google.config, dns_config(zone), ages)
    await sources.renew(google.config)
    await sources.renew(ages)
    made = desk()
    asked = await made.ask([EVIL, "https://other.example/", "mailto:a@b.example", "http://www.young.example/"], 20.0)
    assert {signal.code for signal in asked.signals} == {"reported_malware", "reported_phishing", "young_today"}
    assert (asked.degraded, asked.waiting) == (False, False)
    await made.aclose()


async def test_offline_only_those_in_memory_are_asked(desk: Desk, sources: Sources, zone: Zone) -> None:
    ages = new_config("domain_age", address=(sources.folder / "ages.csv").as_uri())
    (sources.folder / "ages.csv").write_text("evil.example\n")
    sources.write(ages, dns_config(zone))
    await sources.renew(ages)
    asked = await desk().ask([EVIL], 20.0, slow=False)
    assert [signal.code for signal in asked.signals] == ["young_today"]
    assert zone.asked == []


async def test_a_slow_answer_is_not_waited_for_and_is_there_for_the_next(
    desk: Desk, sources: Sources, google: Google
) -> None:
    sources.write(google.config)
    await sources.renew(google.config)
    made = desk()
    google.go_on.clear()
    asked = await made.ask([EVIL], 0.05)
    assert (asked.signals, asked.waiting) == ((), True)
    google.go_on.set()
    asked = await made.ask([EVIL], 20.0)
    assert [signal.code for signal in asked.signals] == ["reported_malware"]
    assert google.searches() == 1
    await made.aclose()


async def test_a_failing_source_degrades_and_the_others_are_heard(
    desk: Desk, sources: Sources, google: Google, zone: Zone
) -> None:
    zone.records["evil.example.dbl.test"] = ["127.0.1.4"]
    sources.write(google.config, dns_config(zone))
    await sources.renew(google.config)
    google.server.fail(503)
    asked = await desk().ask([EVIL], 20.0)
    assert asked.degraded
    assert {(signal.code, signal.source) for signal in asked.signals} == {
        ("not_asked", "Google Safe Browsing"),
        ("reported_phishing", "Spamhaus DBL"),
    }


async def test_a_source_whose_key_is_missing_is_said_to_be_missing(
    desk: Desk, sources: Sources, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    sources.write(google.config)
    made = desk()
    asked = await made.ask(["http://good.example/"], 1.0)
    assert [signal.code for signal in asked.signals] == ["not_asked"]
    assert "TEST_KEY" in made.problems["Google Safe Browsing"]
    assert made.state() == {"asked": 0, "not_usable": 1}


@pytest.mark.parametrize("text", ["rubbish", "[5]", "{}5", '[{"name": "x"}]'])
async def test_a_configuration_that_cannot_be_read_leaves_the_sources_in_force(
    desk: Desk, sources: Sources, google: Google, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write(google.config)
    await sources.renew(google.config)
    made = desk()
    now = [0.0]
    monkeypatch.setattr(made, "_monotonic", lambda: now[0])
    assert (await made.ask([EVIL], 20.0)).signals
    (sources.folder / CONFIGS).write_text(text)
    now[0] += 1
    assert (await made.ask([EVIL], 20.0)).signals


async def test_a_change_of_sources_or_of_their_files_is_noticed(
    desk: Desk, sources: Sources, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = desk()
    now = [0.0]
    monkeypatch.setattr(made, "_monotonic", lambda: now[0])
    generations = [made.refresh()]
    sources.write(google.config)
    now[0] += 1
    generations.append(made.refresh())
    await sources.renew(google.config)
    now[0] += 1
    generations.append(made.refresh())
    now[0] += 1
    assert made.refresh() == generations[-1]
    assert (await made.ask([EVIL], 20.0)).signals
    sources.write()
    now[0] += 1
    generations.append(made.refresh())
    assert generations == sorted(set(generations))
    assert (await made.ask([EVIL], 20.0)).signals == ()


async def test_a_fault_of_ours_in_a_source_degrades_and_raises_nothing(
    desk: Desk, sources: Sources, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write(google.config)
    made = desk()
    made.refresh()
    (_, source), *_ = made._sources.values()

    async def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(source, "inspect", broken)
    asked = await made.ask([EVIL], 20.0)
    assert asked.degraded
    assert [signal.code for signal in asked.signals] == ["not_asked"]


@pytest.mark.parametrize(("kind", "options"), [("domain_age", {"days": "many"}), ("surbl", {"nameservers": "nowhere"})])
async def test_a_source_with_an_option_that_makes_no_sense_keeps_nobody_from_the_others(
    desk: Desk, sources: Sources, google: Google, kind: str, options: dict[str, str]
) -> None:
    sources.write(new_config(kind, address="https://lists.example/new.csv", options=options), google.config)
    await sources.renew(google.config)
    asked = await desk().ask([EVIL], 20.0)
    assert {signal.code for signal in asked.signals} == {"not_asked", "reported_malware"}


async def test_a_fault_of_ours_in_memory_degrades_and_raises_nothing(
    desk: Desk, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write(new_config("domain_age", address="https://lists.example/new.csv"))
    made = desk()
    made.refresh()
    (_, source), *_ = made._sources.values()

    async def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(source, "inspect", broken)
    asked = await made.ask([EVIL], 20.0)
    assert asked.degraded
    assert [signal.code for signal in asked.signals] == ["not_asked"]


async def test_who_waits_for_a_source_that_is_removed_goes_on(
    desk: Desk, sources: Sources, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write(google.config)
    await sources.renew(google.config)
    made = desk()
    now = [0.0]
    monkeypatch.setattr(made, "_monotonic", lambda: now[0])
    google.go_on.clear()
    waiting = asyncio.create_task(made.ask([EVIL], 20.0))
    assert await asyncio.to_thread(google.was_asked.wait, 10)
    sources.write()
    now[0] += 1
    made.refresh()
    asked = await waiting
    assert asked.degraded
    assert [signal.code for signal in asked.signals] == ["not_asked"]
    await made.aclose()


async def test_networks_that_are_none_are_a_problem_of_the_sources_alone(
    desk: Desk, sources: Sources, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTERN_SOURCE_NETWORKS", "everywhere")
    sources.write(google.config)
    made = desk()
    assert [signal.code for signal in (await made.ask([EVIL], 1.0)).signals] == ["not_asked"]
    assert "POSTERN_SOURCE_NETWORKS" in made.problems["Google Safe Browsing"]


def test_inspect_url_asks_the_sources(desk: Desk, sources: Sources, google: Google, tmp_path: Path) -> None:
    sources.write(google.config)
    asyncio.run(sources.renew(google.config))
    found = inspect_url(EVIL, feed_file=None, offline=True, sources=desk())
    assert found.verdict.level is Level.UNKNOWN
    assert google.searches() == 0


# -- the gateway


@pytest.fixture
def gateway(tmp_path: Path, keyring: KeyRing, sources: Sources) -> Iterator[Served]:
    allow = PolicySnapshot(
        TENANT_NO,
        name="Example",
        rules=(
            ListRule(1, "allow", "wildcard", "allowed.evil.example"),
            ListRule(2, "block", "wildcard", "blocked.example"),
        ),
    )
    with serve_gateway(tmp_path, keyring, snapshots=(allow,)) as served:
        yield served


def click(served: Served, url: str, **values: Any) -> httpx.Response:
    return httpx.get(served.link(url), follow_redirects=False, headers={"Accept-Language": "de"}, **values)


def test_a_click_on_a_listed_address_is_blocked_with_the_reason_in_words(
    gateway: Served, sources: Sources, google: Google
) -> None:
    assert click(gateway, "http://first.example/").status_code == 302
    asyncio.run(sources.renew(google.config))
    sources.write(google.config)
    reply = _until(lambda: click(gateway, EVIL), 403)
    assert "Schadprogramme verbreiten könnte" in reply.text
    assert "Google Safe Browsing" in reply.text
    assert click(gateway, "http://good.example/").status_code == 302
    assert httpx.get(f"{gateway.url}/readyz").json()["sources"] == {"asked": 1, "not_usable": 0}


def test_a_click_that_was_answered_before_is_judged_anew_when_the_lists_come(
    gateway: Served, sources: Sources, google: Google
) -> None:
    assert click(gateway, EVIL).status_code == 302
    asyncio.run(sources.renew(google.config))
    sources.write(google.config)
    assert _until(lambda: click(gateway, EVIL), 403).status_code == 403


def test_a_slow_source_gives_a_waiting_page_that_goes_on_by_itself(
    gateway: Served, sources: Sources, google: Google
) -> None:
    asyncio.run(sources.renew(google.config))
    sources.write(google.config)
    google.go_on.clear()
    reply = click(gateway, EVIL, timeout=30)
    assert reply.status_code == 200
    again = re.match(r"1; url=(\?wait=\d+)", reply.headers["refresh"])
    assert again is not None
    google.go_on.set()
    reply = httpx.get(gateway.link(EVIL) + again[1], follow_redirects=False, timeout=30)
    assert reply.status_code == 403
    assert google.searches() == 1


def test_a_source_that_is_down_makes_the_verdict_degraded_and_the_policy_decides(
    gateway: Served, sources: Sources, google: Google
) -> None:
    asyncio.run(sources.renew(google.config))
    sources.write(google.config)
    google.server.faults += [Reply(b"", 503)] * 5
    reply = _until(lambda: click(gateway, EVIL), 200)
    assert "refresh" not in reply.headers
    assert "konnte nicht gefragt werden" in reply.text
    # What is on no list is not asked for, and nobody else is held up.
    assert click(gateway, "http://good.example/").status_code == 302


def test_the_tenants_own_lists_come_first_and_nothing_is_asked_then(
    gateway: Served, sources: Sources, google: Google
) -> None:
    asyncio.run(sources.renew(google.config))
    sources.write(google.config)
    assert _until(lambda: click(gateway, EVIL), 403).status_code == 403
    before = google.searches()
    assert click(gateway, "http://allowed.evil.example/").status_code == 302
    assert click(gateway, "http://blocked.example/").status_code == 403
    assert google.searches() == before


def test_addresses_inside_the_address_are_asked_about(gateway: Served, sources: Sources, google: Google) -> None:
    asyncio.run(sources.renew(google.config))
    sources.write(google.config)
    url = "https://redirect.example/go?to=http%3A%2F%2Fevil.example%2Fpath"
    assert _until(lambda: click(gateway, url), 403).status_code == 403


def _until(ask: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """The answer once a change has arrived (files are looked at five times a second)."""
    for _ in range(100):
        reply = ask()
        if reply.status_code == status:
            return reply
        threading.Event().wait(0.05)
    return reply
