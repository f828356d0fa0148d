"""Changes, notifications and the Directory of the emulated Google."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from connectors.base.errors import CursorExpired, MailboxUnavailable, MisconfiguredClient, PermissionMissing
from connectors.base.types import Change, ChangePage, Mailbox, MimeContent, Replacement, Trait
from connectors.emulators.common.faults import FaultKind
from connectors.emulators.google.accounts import NewUser
from connectors.google.connector import GoogleConnector
from connectors.google.pull import PubSubPuller
from tests.contract.connectors.harness import Journal, quick_http
from tests.contract.connectors.harness_google import (
    ADMIN,
    ANNA,
    BEN,
    DOMAIN,
    MAIL,
    SUBSCRIPTION,
    TOPIC,
    GoogleWorld,
    protected,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def drain(
    connector: GoogleConnector, mailbox: Mailbox, cursor: str | None, since: datetime = LONG_AGO
) -> tuple[list[Change], str]:
    changes: list[Change] = []
    for _ in range(100):
        page: ChangePage = await connector.changes(mailbox, cursor, since)
        changes += page.changes
        cursor = page.cursor
        if not page.more:
            return changes, cursor
    raise AssertionError("it never ends")


def test_a_first_listing_gives_all_mail_since_a_time_and_the_history_goes_on_from_there(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            old = world.deliver()
            world.all()[0].internal_ms -= 30 * 86_400_000
            refs = {world.deliver().id for _ in range(3)}
            changes, cursor = await drain(connector, world.mailbox(), None, datetime.now(UTC) - timedelta(days=1))
            assert {change.ref.id for change in changes} == refs
            assert old.id not in refs
            late = world.deliver()
            changes, cursor = await drain(connector, world.mailbox(), cursor)
            assert [(change.ref.id, change.removed) for change in changes] == [(late.id, False)]
            assert await drain(connector, world.mailbox(), cursor) == ([], cursor)

    asyncio.run(main())


def test_mail_that_arrives_while_the_first_listing_goes_on_is_not_lost(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            refs = [world.deliver(labels=("INBOX",)).id for _ in range(501)]
            first = await connector.changes(world.mailbox(), None, LONG_AGO)
            assert first.more
            late = world.deliver()
            rest, cursor = await drain(connector, world.mailbox(), first.cursor)
            after, _ = await drain(connector, world.mailbox(), cursor)
            seen = {change.ref.id for change in (*first.changes, *rest, *after)}
            assert seen == {*refs, late.id}

    asyncio.run(main())


def test_a_long_history_is_paged_from_one_start_and_the_cursor_moves_at_the_end(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            _, start = await drain(connector, world.mailbox(), None)
            refs = [world.deliver(labels=("INBOX",)).id for _ in range(501)]
            first = await connector.changes(world.mailbox(), start, LONG_AGO)
            assert first.more
            again, _ = await drain(connector, world.mailbox(), start)
            rest, cursor = await drain(connector, world.mailbox(), first.cursor)
            assert {change.ref.id for change in again} == set(refs)
            assert {change.ref.id for change in (*first.changes, *rest)} == set(refs)
            assert await drain(connector, world.mailbox(), cursor) == ([], cursor)

    asyncio.run(main())


def test_a_cursor_that_is_too_old_is_said_to_be_expired(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            _, cursor = await drain(connector, world.mailbox(), None)
            ref = world.deliver()
            world.state.expire_history(ANNA)
            with pytest.raises(CursorExpired):
                await connector.changes(world.mailbox(), cursor, LONG_AGO)
            with pytest.raises(CursorExpired):
                await connector.changes(world.mailbox(), '{"h":1,"p":"forged"}', LONG_AGO)
            with pytest.raises(CursorExpired):
                await connector.changes(world.mailbox(), '{"h":1,"p":"forged","s":1577836800}', LONG_AGO)
            changes, _ = await drain(connector, world.mailbox(), None)
            assert [change.ref for change in changes] == [ref]

    asyncio.run(main())


def test_deletions_and_returns_from_spam_are_changes_and_drafts_are_not(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            kept, spam = world.deliver(), world.deliver(labels=("SPAM",))
            _, cursor = await drain(connector, world.mailbox(), None)
            world.delete(kept.id)
            world.relabel(spam.id, add=("INBOX",), remove=("SPAM",))
            with world.state.lock:
                world.state.mailbox(ANNA).add(MAIL, ("DRAFT",), internal_ms=0)
            changes, _ = await drain(connector, world.mailbox(), cursor)
            assert {(change.ref.id, change.removed) for change in changes} == {(kept.id, True), (spam.id, False)}

    asyncio.run(main())


def test_our_own_copy_is_known_as_such_when_it_shows_up(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            _, cursor = await drain(connector, world.mailbox(), None)
            message = await connector.fetch(world.deliver())
            change = Replacement(message, MimeContent(protected(MAIL)))
            done = await connector.replace(change, "job:1", Journal())
            changes, _ = await drain(connector, world.mailbox(), cursor)
            assert done.ref in [change.ref for change in changes]
            assert Trait.OWN_COPY in (await connector.fetch(done.ref)).traits

    asyncio.run(main())


def test_reads_are_tried_again_through_throttling_and_outages(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            ref = world.deliver()
            for kind in (FaultKind.THROTTLE, FaultKind.UNAVAILABLE, FaultKind.TIMEOUT_BEFORE):
                world.fail(kind, "/messages/")
            assert (await connector.fetch(ref)).ref == ref
            assert world.state.faults.counts.keys() >= {"throttle", "unavailable", "timeout_before"}

    asyncio.run(main())


def test_a_watch_lives_seven_days_and_is_prolonged(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            first = await connector.subscribe(world.mailbox(), "")
            assert first.id == ANNA
            assert timedelta(days=6.9) < first.expires_at - datetime.now(UTC) <= timedelta(days=7)
            ref = world.deliver()
            changes, _ = await drain(connector, world.mailbox(), first.cursor)
            assert [change.ref for change in changes] == [ref]
            world.state.clock.advance(3_000)
            second = await connector.renew(first, "")
            assert second.expires_at - first.expires_at > timedelta(seconds=2_990)
            await connector.unsubscribe(second)
            await connector.unsubscribe(second)
            assert world.state.mailbox(ANNA).watch is None

    asyncio.run(main())


def test_a_watch_of_another_topic_is_taken_over(world: GoogleWorld) -> None:
    other = "projects/postern-test/topics/other"
    world.state.create_topic(other)

    async def main() -> None:
        async with world.connector(pubsub_topic=other) as connector:
            await connector.subscribe(world.mailbox(), "")
        async with world.connector() as connector:
            await connector.subscribe(world.mailbox(), "")
            watch = world.state.mailbox(ANNA).watch
            assert watch is not None
            assert watch.topic == TOPIC

    asyncio.run(main())


def test_without_a_topic_there_are_no_notifications(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector(pubsub_topic="") as connector:
            assert not connector.capabilities.push
            with pytest.raises(MisconfiguredClient):
                await connector.subscribe(world.mailbox(), "")

    asyncio.run(main())


def test_stopping_for_a_mailbox_that_is_gone_is_fine(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            subscription = await connector.subscribe(world.mailbox(), "")
            world.state.delete_user(ANNA)
            await connector.unsubscribe(subscription)
            with pytest.raises(MailboxUnavailable):
                await connector.renew(subscription, "")

    asyncio.run(main())


def test_all_accounts_of_the_customer_are_listed(world: GoogleWorld) -> None:
    world.state.suspend(BEN)
    for number in range(502):
        world.state.create_user(NewUser(f"user{number:03}@{DOMAIN}", f"User {number}"))

    async def main() -> None:
        async with world.connector() as connector:
            found = {mailbox.address: mailbox async for mailbox in connector.mailboxes()}
            assert len(found) == 505
            assert found[ANNA].aliases == (f"a.schmidt@{DOMAIN}",)
            assert found[ANNA].enabled
            assert not found[BEN].enabled
            assert found[ANNA].id == world.mailbox().id

    asyncio.run(main())


def test_an_administrator_who_is_gone_must_be_replaced(world: GoogleWorld) -> None:
    world.state.delete_user(ADMIN)

    async def main() -> None:
        async with world.connector() as connector:
            with pytest.raises(PermissionMissing, match="another administrator"):
                [mailbox async for mailbox in connector.mailboxes()]

    asyncio.run(main())


def test_hints_are_pulled_and_come_again_until_they_are_acknowledged(world: GoogleWorld) -> None:
    world.state.create_subscription(SUBSCRIPTION, TOPIC)

    async def main() -> None:
        async with world.connector() as connector:
            await connector.subscribe(world.mailbox(), "")
        async with quick_http() as http:
            puller = PubSubPuller(world.config(), http=http)
            hints, _ = await puller.pull()
            assert [hint.subscription_id for hint in hints] == [ANNA]
            world.state.clock.advance(11)
            batches = puller.batches()
            assert [hint.subscription_id for hint in await anext(batches)] == [ANNA]
            world.state.pubsub.publish(TOPIC, b"not from Gmail")
            world.state.pubsub.publish(TOPIC, b'{"emailAddress": "ben@corp.example", "historyId": 7}')
            world.fail(FaultKind.UNAVAILABLE, "/pubsub/", limit=5)
            assert [hint.subscription_id for hint in await anext(batches)] == [BEN]
            assert puller.skipped == 1
            await batches.aclose()

    asyncio.run(main())
