"""Delivered links are asked about again at services, which say nothing by themselves (L13, L18)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from app.kit.clock import utc_now
from app.kit.crypto import KeyRing
from app.policy.service import PolicyService
from app.protection import turn_services
from app.protection.feed_tasks import fire_due
from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage, ServiceReviewState
from app.protection.incidents import TurnPolicy, change_turn_policy
from app.protection.models import MessageMove
from app.protection.turn_listen import heard
from app.protection.turn_match import click_subject
from app.protection.turn_services import LINKS_PER_STEP, Reviewed, ServiceReview
from app.verdicts.asking import SourceDesk
from app.verdicts.lists import store_path
from app.verdicts.sources.distribution import FeedFollower
from app.verdicts.sources.refresh import Refresher
from app.verdicts.sources.service import REVIEW, add_source, new_config
from app.verdicts.sources.types import SourceConfig
from connectors.base.types import Provider
from connectors.emulators.testing import Emulators
from tests.integration.protection.jobs import work_off
from tests.integration.protection.world import Organisation, connect, mail
from tests.integration.verdicts.dns_server import Zone, serve_dns
from tests.integration.verdicts.google_lists import Lists
from tests.integration.verdicts.loopback import loopback_client, serve

# Nothing of this depends on the provider.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("organisation", [Provider.GOOGLE], indirect=True)]

BAD = "https://parcel.evil.example/track?id=7"
SITE = "evil.example.dbl.test"
PHISHING = ["127.0.1.4"]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def zone() -> Iterator[Zone]:
    with serve_dns() as made:
        yield made


async def switch_on(organisation: Organisation, zone: Zone) -> None:
    config = new_config("spamhaus_dbl", address="dbl.test", enabled=True, options={"nameservers": [zone.address]})
    await add(organisation, config)
    await follow(organisation, organisation.runtime.settings.data_dir)


async def add(organisation: Organisation, config: SourceConfig) -> None:
    async with organisation.runtime.db.untenanted() as session:
        await add_source(session, config)
        # The tests do what these jobs do.
        await session.execute(text("DELETE FROM procrastinate_jobs WHERE task_name LIKE 'feeds.%'"))


async def follow(organisation: Organisation, folder: Path) -> None:
    await FeedFollower(organisation.runtime.db, folder).catch_up()


def settle(organisation: Organisation, **more: Any) -> None:
    settings = organisation.runtime.settings.model_copy(update=more)
    object.__setattr__(organisation.runtime, "settings", settings)


async def deliver(organisation: Organisation, *links: str, to: str = "") -> None:
    address = to or organisation.people[0]
    for number, link in enumerate(links):
        organisation.deliver(address, mail(address, "Parcel", link, n=number))
    await organisation.sync(address)
    await work_off(organisation.runtime)


async def pass_time(organisation: Organisation, **more: float) -> None:
    """Mail gets older."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        for table, column in (("messages", "seen_at"), ("service_reviews", "held_since"), ("incidents", "opened_at")):
            query = f"UPDATE {table} SET {column} = {column} - CAST(:by AS interval)"
            await session.execute(text(query), {"by": timedelta(**more)})


async def add_links(organisation: Organisation, message: int, count: int) -> None:
    query = text(
        "INSERT INTO message_links (tenant_id, message_id, ordinal, url, host, kind) "
        "SELECT :tenant, :message, 100 + n, 'https://s' || n || '.example/', 's' || n || '.example', 'a' "
        "FROM generate_series(1, :count) n"
    )
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(query, {"tenant": organisation.tenant_id, "message": message, "count": count})


async def review(organisation: Organisation) -> Reviewed:
    """A worker that was started just now."""
    return await ServiceReview(organisation.runtime).run()


async def rows(organisation: Organisation, table: Any) -> list[Any]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(table)))


async def test_a_site_that_a_service_reports_after_delivery_turns(
    organisation: Organisation, zone: Zone, tmp_path: Path
) -> None:
    await switch_on(organisation, zone)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_turn_policy(session, organisation.actor, TurnPolicy(quarantine=True))
    for address in organisation.people[:2]:
        await deliver(organisation, BAD, to=address)
    seconds = iter(range(1_000_000))
    gateway = tmp_path / "gateway"
    await follow(organisation, gateway)
    clicks = SourceDesk(store_path(gateway).parent, loopback_client, monotonic=lambda: float(next(seconds)))
    assert (await clicks.ask([BAD], 30.0)).signals == ()
    before = clicks.generation

    await pass_time(organisation, minutes=15)
    assert await review(organisation) == Reviewed(asked=1)  # the same in both messages
    assert await rows(organisation, Incident) == []
    zone.records[SITE] = PHISHING
    assert await review(organisation) == Reviewed()  # not before its time
    assert (await clicks.ask([BAD], 30.0)).signals == ()  # it remembers the answer

    await pass_time(organisation, hours=1)
    counted = turn_services.LINKS.labels("reported")._value.get()
    assert await review(organisation) == Reviewed(asked=1, reported=1)
    assert turn_services.LINKS.labels("reported")._value.get() == counted + 1
    (incident,) = await rows(organisation, Incident)
    assert (incident.kind, incident.subject, incident.cause, incident.messages) == (
        "listed", "evil.example/", "service", 2,
    )  # fmt: skip
    assert incident.evidence[0]["source"] == "Spamhaus DBL"
    await follow(organisation, gateway)
    signals = (await clicks.ask([BAD], 30.0)).signals
    assert [signal.code for signal in signals] == ["reported_phishing"]
    assert clicks.generation > before
    # A click that it stops joins the same incident.
    subject = click_subject(BAD, "verdict:malicious", [signal.as_json() for signal in signals], {})
    assert subject is not None
    assert (subject.kind, subject.text) == (incident.kind, incident.subject)
    await work_off(organisation.runtime)
    assert [move.state for move in await rows(organisation, MessageMove)] == ["moved", "moved"]
    assert "evil" not in (store_path(gateway).parent / "reports.json").read_text()
    await clicks.aclose()


async def test_nothing_is_done_twice_where_the_worker_is_killed(
    organisation: Organisation, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    await switch_on(organisation, zone)
    await deliver(organisation, BAD)
    zone.records[SITE] = PHISHING
    await pass_time(organisation, minutes=15)

    async def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(turn_services, "add_copies", killed)
        with pytest.raises(Killed):
            await review(organisation)
    assert await rows(organisation, Incident) == []
    assert (await review(organisation)).reported == 1
    await pass_time(organisation, hours=1)
    assert (await review(organisation)).reported == 1
    assert len(await rows(organisation, Incident)) == 1
    assert len(await rows(organisation, IncidentMessage)) == 1
    events = [event.kind for event in await rows(organisation, IncidentEvent)]
    assert events.count("opened") == 1


async def test_questions_are_bounded_and_the_youngest_mail_comes_first(organisation: Organisation, zone: Zone) -> None:
    await switch_on(organisation, zone)
    settle(organisation, service_review_per_minute=2)
    await deliver(organisation, *(f"https://old{number}.example/" for number in range(3)))
    await pass_time(organisation, hours=5)
    await deliver(organisation, *(f"https://young{number}.example/" for number in range(3)))
    await pass_time(organisation, minutes=15)
    asked: list[list[str]] = []
    for _ in range(4):
        zone.asked.clear()
        await review(organisation)
        asked.append([name[:3] for name in zone.asked])
    assert asked == [["you", "you"], ["you", "old"], ["old", "old"], []]


async def test_a_message_with_more_links_than_a_step_is_asked_about_whole(
    organisation: Organisation, zone: Zone
) -> None:
    await switch_on(organisation, zone)
    settle(organisation, service_review_per_minute=1_000)
    await deliver(organisation, "https://first.example/")
    (message,) = await organisation.messages()
    await add_links(organisation, message.id, LINKS_PER_STEP)
    await pass_time(organisation, minutes=15)
    assert await review(organisation) == Reviewed(asked=LINKS_PER_STEP + 1)
    assert len(set(zone.asked)) == LINKS_PER_STEP + 1


async def test_a_message_with_more_links_than_may_be_asked_about_at_once_is_asked_about_in_the_end(
    organisation: Organisation, zone: Zone
) -> None:
    await switch_on(organisation, zone)
    settle(organisation, service_review_per_minute=3)
    await deliver(organisation, "https://first.example/")
    (message,) = await organisation.messages()
    await add_links(organisation, message.id, 10)
    await pass_time(organisation, minutes=15)
    worker = ServiceReview(organisation.runtime)
    assert [(await worker.run()).asked for _ in range(5)] == [3, 3, 3, 2, 0]
    assert len(set(zone.asked)) == len(zone.asked) == 11


async def test_every_organisation_has_its_share_of_the_questions(
    organisation: Organisation, zone: Zone, emulators: Emulators, keyring: KeyRing
) -> None:
    runtime = organisation.runtime
    other = await connect(runtime.db, emulators, Provider.MICROSOFT, runtime.settings, keyring, "eve")
    try:
        await switch_on(organisation, zone)
        settle(organisation, service_review_per_minute=4)
        await deliver(organisation, *(f"https://many{number}.example/" for number in range(9)))
        await deliver(other, "https://few0.example/", "https://few1.example/")
        for one in (organisation, other):
            await pass_time(one, minutes=15)
        assert (await review(organisation)).asked == 4
        assert sorted(name[:3] for name in zone.asked) == ["few", "few", "man", "man"]
        # Each sees its own places alone.
        assert [state.asked for state in await rows(organisation, ServiceReviewState)] == [2]
        assert [state.asked for state in await rows(other, ServiceReviewState)] == [2]
    finally:
        await other.runtime.providers.aclose()


async def test_a_service_that_does_not_answer_is_waited_for_an_hour(organisation: Organisation, zone: Zone) -> None:
    await switch_on(organisation, zone)
    await deliver(organisation, BAD)
    zone.servfail = True
    await pass_time(organisation, minutes=15)
    for _ in range(2):
        done = await review(organisation)
        assert (done.asked, done.missed) == (1, 1)
    zone.servfail = False
    zone.records[SITE] = PHISHING
    assert await review(organisation) == Reviewed(asked=1, reported=1)
    (state,) = await rows(organisation, ServiceReviewState)
    assert (state.asked, state.missed, state.reported, state.held_since) == (3, 2, 1, None)
    zone.servfail = True
    await pass_time(organisation, minutes=50)
    await review(organisation)
    await pass_time(organisation, minutes=65)
    assert (await review(organisation)).missed == 1
    assert await review(organisation) == Reviewed()  # it went on


async def test_what_the_own_list_decides_is_asked_about_nowhere(organisation: Organisation, zone: Zone) -> None:
    await switch_on(organisation, zone)
    policy = PolicyService(organisation.runtime.db)
    await policy.add(organisation.actor, action="allow", pattern="evil.example")
    await deliver(organisation, BAD, "https://other.example/")
    zone.records[SITE] = PHISHING
    await pass_time(organisation, minutes=15)
    assert await review(organisation) == Reviewed(asked=1)
    assert zone.asked == ["other.example.dbl.test"]
    assert await rows(organisation, Incident) == []


async def test_old_mail_and_switched_off_asks_nothing(organisation: Organisation, zone: Zone) -> None:
    await deliver(organisation, BAD)
    assert await review(organisation) == Reviewed()
    await fire_due(organisation.runtime)
    assert REVIEW not in await jobs(organisation)
    await switch_on(organisation, zone)
    await pass_time(organisation, days=3, minutes=1)
    assert await review(organisation) == Reviewed()
    await deliver(organisation, BAD)
    await pass_time(organisation, minutes=15)
    await fire_due(organisation.runtime)
    assert REVIEW in await jobs(organisation)
    settle(organisation, service_review_days=0)
    assert await review(organisation) == Reviewed()
    assert zone.asked == []


async def jobs(organisation: Organisation) -> list[str]:
    async with organisation.runtime.db.untenanted() as session:
        return list((await session.execute(text("SELECT task_name FROM procrastinate_jobs"))).scalars())


async def test_of_an_address_only_the_beginning_of_a_hash_leaves_where_it_is_listed(
    organisation: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "the-key")
    settle(organisation, source_networks="127.0.0.0/8")
    lists = Lists()
    lists.report("MALWARE", "parcel.evil.example/track")
    with serve(lists.v5) as server:
        config = new_config("safe_browsing", address=server.url, secret_ref="env:TEST_KEY", enabled=True)
        await add(organisation, config)
        await Refresher(organisation.runtime.db, loopback_client(), tmp_path / "work").refresh(config.name)
        await follow(organisation, organisation.runtime.settings.data_dir)
        server.asked.clear()
        await deliver(organisation, BAD, "https://fine.example/")
        await pass_time(organisation, minutes=15)
        assert await review(organisation) == Reviewed(asked=2, reported=1)
    (asked,) = server.asked
    assert asked.path == "/v5/hashes:search"
    assert "evil" not in str(asked)
    (incident,) = await rows(organisation, Incident)
    assert incident.subject == "parcel.evil.example/track"


async def test_copies_that_come_later_are_not_moved_on_a_services_old_word(
    organisation: Organisation, zone: Zone
) -> None:
    await switch_on(organisation, zone)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_turn_policy(session, organisation.actor, TurnPolicy(quarantine=True))
    await deliver(organisation, BAD)
    zone.records[SITE] = PHISHING
    await pass_time(organisation, minutes=15)
    await review(organisation)
    await work_off(organisation.runtime)
    assert len(await rows(organisation, MessageMove)) == 1
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        incident = await session.scalar(select(Incident))
        assert incident is not None
        said = (utc_now() - timedelta(minutes=31)).isoformat()
        incident.evidence = [{**incident.evidence[0], "confirmed_at": said}]
    await deliver(organisation, BAD + "8")
    await turn_now(organisation)
    assert len(await rows(organisation, IncidentMessage)) == 2
    assert len(await rows(organisation, MessageMove)) == 1
    # Once it says so again, they are.
    await pass_time(organisation, minutes=15)
    assert (await review(organisation)).reported == 1
    await work_off(organisation.runtime)
    assert len(await rows(organisation, MessageMove)) == 2


async def turn_now(organisation: Organisation) -> None:
    await heard(organisation.runtime, str(organisation.tenant_id))
    await work_off(organisation.runtime)
