"""Groups of the directory, by which an administrator chooses mailboxes; and what organisation a grant reaches."""

from __future__ import annotations

import uuid

import pytest

from connectors.base.errors import GroupNotFound, PermissionMissing
from connectors.base.protocol import MailboxConnector
from tests.contract.connectors.harness import ProviderHarness

pytestmark = pytest.mark.anyio


async def members(connector: MailboxConnector, group: str) -> set[str]:
    return {member async for member in connector.members(group)}


async def test_a_group_is_found_by_its_address_and_by_its_id(harness: ProviderHarness) -> None:
    harness.may_read_groups()
    domain = harness.ada.address.partition("@")[2]
    made = harness.add_group("pilot", [harness.ada])
    connector = harness.new_connector()

    for text in (f"pilot@{domain}", f"Pilot@{domain}", made):
        (found,) = await connector.find_groups(text)
        assert (found.id, found.address) == (made, f"pilot@{domain}")
    assert await connector.find_groups(f"nobody@{domain}") == []
    assert await connector.find_groups(str(uuid.uuid4())) == []


async def test_members_of_nested_groups_are_members_too(
    harness: ProviderHarness,
) -> None:
    harness.may_read_groups()
    inner = harness.add_group("inner", [harness.ben])
    outer = harness.add_group("outer", [harness.ada], [inner])

    assert await members(harness.new_connector(), outer) == {harness.ada.id, harness.ben.id}
    assert await members(harness.new_connector(), inner) == {harness.ben.id}


async def test_a_deleted_group_is_not_an_empty_one(harness: ProviderHarness) -> None:
    harness.may_read_groups()
    gone, empty = harness.add_group("gone", [harness.ada]), harness.add_group("empty", [])
    harness.remove_group(gone)

    assert await members(harness.new_connector(), empty) == set()
    with pytest.raises(GroupNotFound):
        await members(harness.new_connector(), gone)


async def test_without_the_permission_it_is_named_and_mail_is_not_affected(harness: ProviderHarness) -> None:
    group = harness.add_group("pilot", [harness.ada])
    connector = harness.new_connector()

    with pytest.raises(PermissionMissing) as refused:
        await members(connector, group)
    assert "group" in refused.value.which.lower()
    with pytest.raises(PermissionMissing):
        await connector.find_groups(group)
    assert harness.ada.address in {mailbox.address async for mailbox in connector.mailboxes()}


async def test_a_quotation_mark_in_a_group_s_name_changes_nothing(harness: ProviderHarness) -> None:
    harness.may_read_groups()
    harness.add_group("pilot", [harness.ada])

    assert await harness.new_connector().find_groups("x' or displayName eq 'pilot") == []


async def test_the_organisation_is_named_by_the_provider_s_own_id(harness: ProviderHarness) -> None:
    connector = harness.new_connector()

    named = await connector.organisation()
    assert named
    assert named == await connector.organisation()
    assert "@" not in named
