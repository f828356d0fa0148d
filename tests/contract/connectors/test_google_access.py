"""Grants, credentials and what their failures mean, on the emulated Google."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from importlib import import_module

import pytest

from connectors.base.errors import (
    AccessRevoked,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
    Throttled,
    Unavailable,
)
from connectors.base.types import AccessCheck, CheckStatus, Mailbox
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.google.app import GMAIL_METHODS
from connectors.google.config import SCOPE_FULL, SCOPE_MODIFY, SCOPE_USERS, KeyFile, Keyless
from connectors.google.connector import GoogleConnector
from connectors.google.quotas import UNITS
from tests.contract.connectors.harness import QUICK
from tests.contract.connectors.harness_google import ADMIN, ANNA, CUSTOMER, DOMAIN, MARKER_KEY, GoogleWorld

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


async def statuses(connector: GoogleConnector) -> dict[str, AccessCheck]:
    return {check.key: check for check in await connector.check_access()}


async def test_a_missing_scope_is_named_and_is_not_a_revoked_grant(world: GoogleWorld) -> None:
    world.delegate(SCOPE_USERS)
    async with world.connector() as connector:
        with pytest.raises(PermissionMissing) as raised:
            await connector.changes(world.mailbox(), None, SINCE)
        assert raised.value.which == SCOPE_MODIFY
        checks = await statuses(connector)
        assert checks["delegation"].status is CheckStatus.FAILED
        assert SCOPE_MODIFY in checks["delegation"].summary
        assert checks["directory"].status is CheckStatus.PASSED
        assert checks["mail_read"].status is CheckStatus.SKIPPED


async def test_permanent_deletion_needs_its_own_scope(world: GoogleWorld) -> None:
    async with world.connector(removal="delete") as connector:
        checks = await statuses(connector)
        assert checks["permanent_delete"].status is CheckStatus.FAILED
        assert checks["permanent_delete"].link.startswith(world.config().admin_console)
    world.delegate(removal="delete")
    async with world.connector(removal="delete") as connector:
        checks = await statuses(connector)
        assert checks["permanent_delete"].status is CheckStatus.PASSED
        assert connector.capabilities.required_permissions == (SCOPE_FULL, SCOPE_USERS)


async def test_a_revoked_grant_is_noticed_and_a_check_tells_how_to_repair_it(world: GoogleWorld) -> None:
    async with world.connector() as connector:
        await connector.changes(world.mailbox(), None, SINCE)
        world.state.revoke_delegation(CUSTOMER, world.key["client_id"], drop_tokens=True)
        with pytest.raises(AccessRevoked):
            await connector.changes(world.mailbox(), None, SINCE)
        check = (await statuses(connector))["delegation"]
        assert check.status is CheckStatus.FAILED
        assert world.key["client_id"] in check.remedy
        assert f"clientIdToAdd={world.key['client_id']}" in check.link


async def test_a_check_does_not_believe_an_old_token(world: GoogleWorld) -> None:
    async with world.connector() as connector:
        assert (await statuses(connector))["delegation"].status is CheckStatus.PASSED
        world.state.revoke_delegation(CUSTOMER, world.key["client_id"])
        assert (await statuses(connector))["delegation"].status is CheckStatus.FAILED


async def test_a_suspended_user_is_one_mailbox_not_the_tenant(world: GoogleWorld) -> None:
    async with world.connector() as connector:
        await connector.changes(world.mailbox(), None, SINCE)
        world.state.suspend(ANNA)
        with pytest.raises(MailboxUnavailable):
            await connector.changes(world.mailbox(), None, SINCE)
        await connector.changes(world.mailbox(ADMIN), None, SINCE)


async def test_a_deleted_user_is_one_mailbox_not_the_tenant(world: GoogleWorld) -> None:
    anna = world.mailbox()
    world.state.delete_user(ANNA)
    async with world.connector() as connector:
        with pytest.raises(MailboxUnavailable):
            await connector.changes(anna, None, SINCE)


async def test_a_user_without_gmail_is_one_mailbox_not_the_tenant(world: GoogleWorld) -> None:
    user = world.state.create_user(NewUser(f"nomail@{DOMAIN}", "No Mail", mailbox=False))
    async with world.connector() as connector:
        with pytest.raises(MailboxUnavailable):
            await connector.changes(Mailbox(user.id, user.email), None, SINCE)


async def test_an_account_of_another_organisation_is_out_of_reach_and_proves_nothing(world: GoogleWorld) -> None:
    world.state.create_domain("other.example", "C0other", [NewUser("eve@other.example", "Eve")])
    async with world.connector() as connector:
        with pytest.raises(MailboxUnavailable):
            await connector.changes(Mailbox("1", "eve@other.example"), None, SINCE)


async def test_without_an_administrator_the_directory_is_not_asked(world: GoogleWorld) -> None:
    connector = GoogleConnector(world.config(), DOMAIN, marker_key=MARKER_KEY)
    checks = await statuses(connector)
    assert checks["delegation"].status is CheckStatus.SKIPPED
    with pytest.raises(PermissionMissing, match="No administrator"):
        [mailbox async for mailbox in connector.mailboxes()]
    await connector.aclose()


async def test_an_administrator_who_lost_the_role_is_a_failed_check(world: GoogleWorld) -> None:
    world.state.user(ADMIN).admin = False
    async with world.connector() as connector:
        checks = await statuses(connector)
        assert checks["delegation"].status is CheckStatus.PASSED
        assert checks["directory"].status is CheckStatus.FAILED
        assert checks["directory"].link


async def test_a_wrong_key_is_our_fault_not_the_tenant_s(world: GoogleWorld) -> None:
    stranger = world.state.create_service_account("stranger@other-project.iam.gserviceaccount.com")
    wrong = KeyFile({**world.key, "private_key": stranger["private_key"]})
    async with world.connector(service_account=wrong) as connector:
        with pytest.raises(MisconfiguredClient):
            await connector.changes(world.mailbox(), None, SINCE)
        check = (await statuses(connector))["delegation"]
        assert check.status is CheckStatus.UNKNOWN
    broken = KeyFile({**world.key, "private_key": "-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n"})
    async with world.connector(service_account=broken) as connector:
        with pytest.raises(MisconfiguredClient):
            await connector.changes(world.mailbox(), None, SINCE)


async def test_a_token_that_is_not_taken_any_more_is_renewed_even_for_a_write(world: GoogleWorld) -> None:
    async with world.connector() as connector:
        first = await connector.subscribe(world.mailbox(), "")
        world.state.tokens.drop(lambda _: True)
        assert (await connector.renew(first, "")).id == ANNA


async def test_tokens_are_asked_for_once_and_kept(world: GoogleWorld) -> None:
    async with world.connector() as connector:
        for _ in range(3):
            await connector.changes(world.mailbox(), None, SINCE)
        assert sum(1 for grant in world.state.tokens.save().values() if grant["subject"] == ANNA) == 1


async def test_a_slow_token_endpoint_is_waited_for_by_all_callers_together(world: GoogleWorld) -> None:
    async with world.connector() as connector:
        await asyncio.gather(*(connector.changes(world.mailbox(), None, SINCE) for _ in range(8)))
        assert sum(1 for grant in world.state.tokens.save().values() if grant["subject"] == ANNA) == 1


async def test_quota_refusals_are_throttling_of_that_mailbox(world: GoogleWorld) -> None:
    world.state.behaviour.quotas = True
    world.state.behaviour.units_per_user_minute = 12
    for status in (403, 429):
        world.state.behaviour.quota_status = status
        async with world.connector(policy=dataclasses.replace(QUICK, default_retry_after=60)) as connector:
            with pytest.raises(Throttled):
                for _ in range(5):
                    await connector.changes(world.mailbox(), None, SINCE)
            await connector.changes(world.mailbox(ADMIN), None, SINCE)
        world.state.clock.advance(120)


def test_calls_are_counted_with_the_units_that_are_charged() -> None:
    charged = {method.id: method.units for method in GMAIL_METHODS}
    assert {name: charged[name] for name in UNITS} == UNITS


# --- without a key of our own


def keyless(world: GoogleWorld, **changes: str) -> Keyless:
    """The identity we run as: a service account's own access token, as a metadata server would give it."""
    runner = world.state.create_service_account("runner@postern-test.iam.gserviceaccount.com")
    token = world.state.tokens.issue(
        subject=None,
        client=runner["client_id"],
        service_account=runner["client_email"],
        project="postern-test",
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
        lifetime=3_600,
    )
    source = import_module("google.oauth2.credentials").Credentials(token=token)
    account = Keyless(
        world.key["client_email"],
        world.key["client_id"],
        iam_base=f"{world.emulators.google_url}/iam/",
        source=source,
    )
    return dataclasses.replace(account, **changes)


async def test_delegation_works_without_a_private_key(world: GoogleWorld) -> None:
    account = keyless(world)
    world.state.accounts.service_accounts[account.email].token_creators.add(
        "runner@postern-test.iam.gserviceaccount.com"
    )
    async with world.connector(service_account=account) as connector:
        assert (await connector.changes(world.mailbox(), None, SINCE)).cursor


async def test_an_identity_that_may_not_sign_itself_becomes_one_that_may(world: GoogleWorld) -> None:
    middle = "middle@postern-test.iam.gserviceaccount.com"
    world.state.create_service_account(middle)
    account = keyless(world, impersonate=middle)
    accounts = world.state.accounts.service_accounts
    accounts[middle].token_creators.add("runner@postern-test.iam.gserviceaccount.com")
    accounts[account.email].token_creators.add(middle)
    async with world.connector(service_account=account) as connector:
        assert (await connector.changes(world.mailbox(), None, SINCE)).cursor
    accounts[middle].token_creators.clear()
    async with world.connector(service_account=account) as connector:
        with pytest.raises(MisconfiguredClient):
            await connector.changes(world.mailbox(), None, SINCE)


async def test_iam_s_refusal_to_sign_says_what_to_grant(world: GoogleWorld) -> None:
    async with world.connector(service_account=keyless(world)) as connector:
        with pytest.raises(MisconfiguredClient, match="Token Creator"):
            await connector.changes(world.mailbox(), None, SINCE)


async def test_an_outage_of_iam_passes(world: GoogleWorld) -> None:
    account = keyless(world, iam_base="http://127.0.0.1:9/")
    async with world.connector(service_account=account) as connector:
        with pytest.raises(Unavailable):
            await connector.changes(world.mailbox(), None, SINCE)
