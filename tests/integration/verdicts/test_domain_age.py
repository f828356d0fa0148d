"""Young domains: lists over HTTP and from disk, the file that gateways map, and the age in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.verdicts.asking import target_of
from app.verdicts.scoring import Signal
from app.verdicts.sources.domain_age import AgeFile, DomainAge
from app.verdicts.sources.files import Renewed, file_name
from app.verdicts.sources.service import new_config
from app.verdicts.sources.types import SourceFailed
from tests.integration.verdicts.loopback import Loopback, Reply, loopback_client, serve

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@dataclass
class Ages:
    """A source, and the list it reads."""

    loopback: Loopback
    content: list[bytes]
    folder: Path
    now: datetime = NOW
    previous: bytes | None = None
    options: dict[str, Any] | None = None

    @property
    def source(self) -> DomainAge:
        config = new_config("domain_age", address=f"{self.loopback.url}/list", options=self.options or {})
        made = DomainAge(config, "", clock=lambda: self.now)
        made.use(self.folder, loopback_client())
        return made

    async def renew(self, text: str | None = None) -> Renewed:
        if text is not None:
            self.content[0] = text.encode()
        renewed = await self.source.renew(loopback_client(), self.previous)
        if renewed.content is not None:
            self.previous = renewed.content
            (self.folder / file_name(self.source.config)).write_bytes(renewed.content)
        return renewed

    async def ask(self, url: str) -> Signal | None:
        target = target_of(url)
        assert target is not None
        return await self.source.inspect(target, time.monotonic())


@pytest.fixture
def ages(tmp_path: Path) -> Iterator[Ages]:
    content = [b""]
    with serve(lambda asked: Reply(content[0])) as loopback:
        yield Ages(loopback, content, tmp_path)


async def test_age_is_said_in_words(ages: Ages) -> None:
    await ages.renew(
        "today.example,2026-11-21\nyesterday.example,2026-11-20\nweek.example,2026-11-16\nmonth.example,2026-11-01\n"
    )
    found = await ages.ask("https://www.today.example/x")
    assert found is not None
    assert (found.code, found.weight, found.decides) == ("young_today", 30, None)
    assert found.text == ("The site's name is new: today.example was first seen today (2026-11-21, Young domains).")
    found = await ages.ask("https://yesterday.example/")
    assert found is not None
    assert found.code == "young_yesterday"
    found = await ages.ask("https://week.example/")
    assert found is not None
    assert (found.code, found.weight) == ("young_days", 30)
    assert "5 days ago" in found.text
    found = await ages.ask("https://month.example/")
    assert found is not None
    assert found.weight == 15
    for other in ("https://other.example/", "http://192.0.2.1/", "http://co.uk/"):
        assert await ages.ask(other) is None
    ages.now += timedelta(days=15)
    assert await ages.ask("https://month.example/") is None


@pytest.mark.parametrize(
    "text",
    [
        "domain,first seen date\nnew.example,2026-11-19\n",
        "create_date,registrar,domain_name\n2026-11-19 10:00:00,Some Registrar,NEW.example\n",
        "# a comment\n\nnew.example\t2026-11-19\n",
        "new.example;2026-11-19T23:00:00Z\n",
        '"new.example","2026-11-19"\r\n',
        "\ufeffdomain,created\nnew.example,2026-11-19\n",
        "www.new.example,2026-11-19",
    ],
)
async def test_lists_are_read_in_the_forms_they_come_in(ages: Ages, text: str) -> None:
    renewed = await ages.renew(text)
    assert (renewed.entries, renewed.refused) == (1, 0)
    found = await ages.ask("https://new.example/")
    assert found is not None
    assert dict(found.fields)["days"] == "2"


async def test_names_without_a_day_are_as_old_as_their_place_on_the_list(ages: Ages) -> None:
    await ages.renew("a.example\nb.example\n")
    ages.now += timedelta(days=3)
    await ages.renew("a.example\nc.example\n")
    found = await ages.ask("http://a.example/")
    assert found is not None
    assert dict(found.fields)["days"] == "3"
    found = await ages.ask("http://c.example/")
    assert found is not None
    assert found.code == "young_today"
    assert await ages.ask("http://b.example/") is None


async def test_what_cannot_be_read_is_counted_and_named(ages: Ages) -> None:
    renewed = await ages.renew(
        "good.example,2026-11-19\nno domain at all,2026-11-19\n192.0.2.1,2026-11-19\nbad.example,19.11.2026\n"
        "later.example,2027-01-01\nold.example,2020-01-01\n"
    )
    assert renewed.entries == 1  # old names are nothing to keep
    assert renewed.refused == 4
    assert any("19.11.2026" in problem for problem in renewed.problems)


async def test_the_option_says_how_old_young_is(ages: Ages) -> None:
    ages.options = {"days": "90"}
    await ages.renew("old.example,2026-09-15\n")
    found = await ages.ask("http://old.example/")
    assert found is not None
    assert dict(found.fields)["days"] == "67"


async def test_an_unchanged_list_makes_no_new_file(ages: Ages) -> None:
    await ages.renew("a.example,2026-11-19\n")
    assert (await ages.renew()).content is None


@pytest.mark.parametrize("fault", [Reply(b"", 503), Reply(b"", 404), None])
async def test_a_fault_leaves_the_names_in_force(ages: Ages, fault: Reply | None) -> None:
    await ages.renew("a.example,2026-11-19\n")
    ages.loopback.faults.append(fault)
    with pytest.raises(SourceFailed):
        await ages.renew("b.example,2026-11-19\n" * 100)
    assert await ages.ask("http://a.example/") is not None


async def test_an_empty_list_is_a_failure(ages: Ages) -> None:
    with pytest.raises(SourceFailed, match="lists no domain"):
        await ages.renew("# nothing\n")


async def test_a_list_may_be_a_file(ages: Ages, tmp_path: Path) -> None:
    path = tmp_path / "young names.csv"
    config = new_config("domain_age", address=path.as_uri())
    source = DomainAge(config, "", clock=lambda: NOW)
    with pytest.raises(SourceFailed):
        await source.renew(loopback_client(), None)
    path.write_text("a.example,2026-11-19\n")
    renewed = await source.renew(loopback_client(), None)
    assert renewed.content is not None
    assert AgeFile(renewed.content).day_of("a.example") is not None
    assert AgeFile(renewed.content).day_of("b.example") is None


async def test_a_damaged_file_is_not_used(ages: Ages) -> None:
    await ages.renew("a.example,2026-11-19\n")
    assert ages.previous is not None
    for damaged in (ages.previous[:-1], ages.previous[:10], b"rubbish" * 10, ages.previous[:-1] + b"\xff"):
        with pytest.raises(ValueError):
            AgeFile(damaged)
