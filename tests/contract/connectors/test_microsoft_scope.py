"""A tenant whose administrator gives us some mailboxes: by RBAC for Applications, or by an access policy."""

from __future__ import annotations

import datetime as dt

import pytest

from connectors.base.errors import MailboxOutOfScope, PermissionMissing
from connectors.base.types import AccessCheck, CheckStatus, Mailbox, MessageRef
from connectors.emulators.microsoft.model import Person
from connectors.microsoft import reach
from connectors.microsoft.connector import MicrosoftConnector
from tests.contract.connectors.harness import Journal, mail, protect
from tests.contract.connectors.harness_microsoft import MicrosoftHarness

pytestmark = pytest.mark.anyio

MAIL = ("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All")


def an_hour_ago() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


def people(microsoft: MicrosoftHarness, *mailboxes: Mailbox) -> list[Person]:
    return [microsoft.state.person(mailbox.id) for mailbox in mailboxes]


def scope(microsoft: MicrosoftHarness, *mailboxes: Mailbox, roles: tuple[str, ...] = MAIL) -> None:
    """The administrator moves the mail permissions from Entra to Exchange, for these mailboxes."""
    microsoft.grant_only("User.Read.All")
    microsoft.state.grant_scoped(
        microsoft.tenant.id, microsoft.emulators.client_id, roles, people(microsoft, *mailboxes)
    )


async def checks_of(connector: MicrosoftConnector, *first: Mailbox) -> dict[str, AccessCheck]:
    return {check.key: check for check in await connector.check_access(first)}


async def test_mailboxes_given_in_exchange_pass_the_checks_with_their_number(microsoft: MicrosoftHarness) -> None:
    scope(microsoft, microsoft.ben)

    checks = await checks_of(microsoft.new_connector())

    assert checks["mail_read_write"].status is CheckStatus.PASSED
    assert "1 of 3" in checks["mail_read_write"].summary
    assert "1 of 3" in checks["mailbox_access"].summary
    assert checks["mailbox_access"].status is CheckStatus.PASSED
    assert checks["mail_advanced"].status is CheckStatus.UNKNOWN
    assert "Mail-Advanced.ReadWrite.All" in checks["mail_advanced"].remedy


async def test_a_mailbox_in_scope_is_protected_and_the_next_check_knows_that_it_may_be(
    microsoft: MicrosoftHarness,
) -> None:
    scope(microsoft, microsoft.ben)
    connector = microsoft.new_connector()
    message = await connector.fetch(microsoft.deliver(microsoft.ben, mail()))

    await connector.replace(protect(microsoft, message), "k", Journal())

    assert (await checks_of(connector))["mail_advanced"].status is CheckStatus.PASSED


@pytest.mark.parametrize("way", ["exchange", "policy"])
async def test_a_mailbox_out_of_scope_is_said_to_be_and_nothing_else_is_missing(
    microsoft: MicrosoftHarness, way: str
) -> None:
    if way == "exchange":
        scope(microsoft, microsoft.ben)
    else:
        microsoft.state.tenants[microsoft.tenant.id].mailbox_scope = [microsoft.ben.id]
    connector = microsoft.new_connector()
    seen = microsoft.deliver(microsoft.ada, mail())

    for _ in range(2):
        with pytest.raises(MailboxOutOfScope):
            await connector.changes(microsoft.ada, None, an_hour_ago())
        with pytest.raises(MailboxOutOfScope):
            await connector.fetch(MessageRef(microsoft.ada, seen.id))
    with pytest.raises(MailboxOutOfScope):
        await connector.subscribe(microsoft.ada, "http://127.0.0.1:9/hook")
    assert (await connector.changes(microsoft.ben, None, an_hour_ago())).changes == ()


async def test_a_mailbox_taken_out_of_scope_before_the_write_is_not_a_missing_permission(
    microsoft: MicrosoftHarness,
) -> None:
    scope(microsoft, microsoft.ada, microsoft.ben)
    connector = microsoft.new_connector()
    message = await connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    scope(microsoft, microsoft.ben)

    with pytest.raises(MailboxOutOfScope):
        await connector.replace(protect(microsoft, message), "k", Journal())


async def test_a_scope_without_the_advanced_permission_stops_at_the_first_message(microsoft: MicrosoftHarness) -> None:
    scope(microsoft, microsoft.ben, roles=("Mail.ReadWrite",))
    connector = microsoft.new_connector()
    message = await connector.fetch(microsoft.deliver(microsoft.ben, mail()))

    with pytest.raises(PermissionMissing) as refused:
        await connector.replace(protect(microsoft, message), "k", Journal())
    assert refused.value.which == "Mail-Advanced.ReadWrite.All"


async def test_where_no_mailbox_at_all_answers_the_permission_is_missing(microsoft: MicrosoftHarness) -> None:
    microsoft.grant_only("User.Read.All")
    connector = microsoft.new_connector()

    with pytest.raises(PermissionMissing) as refused:
        await connector.changes(microsoft.ada, None, an_hour_ago())
    assert refused.value.which == "Mail.ReadWrite"
    checks = await checks_of(connector)
    assert checks["mail_read_write"].status is CheckStatus.FAILED
    assert checks["mail_read_write"].vital


async def test_in_a_directory_too_large_to_be_tried_the_mailboxes_named_are_tried_first(
    microsoft: MicrosoftHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "MOST_TRIED", 1)
    scope(microsoft, microsoft.cleo)
    connector = microsoft.new_connector()

    # Not one of those tried answers, and more are left: a refusal says nothing about the others.
    with pytest.raises(MailboxOutOfScope):
        await connector.changes(microsoft.ada, None, an_hour_ago())
    assert (await checks_of(microsoft.new_connector()))["mail_read_write"].status is CheckStatus.FAILED
    known = await checks_of(connector, microsoft.cleo)
    assert known["mail_read_write"].status is CheckStatus.PASSED
