"""Which mailboxes are taken in: everything, a group's members, a list; and how that is kept up to date."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.kit.errors import Conflict, Refused
from app.protection.choosing import choose_all, choose_groups, choose_list, request_refresh
from app.protection.models import MailboxChoice, MailboxRow
from app.protection.roster import bind_organisation, refresh_mailboxes, unknown_addresses
from app.protection.runtime import grant_of
from app.protection.tasks import probe, renew
from app.tenants.models import Tenant
from connectors.base.types import DirectoryGroup, Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.google.accounts import NewUser
from connectors.google.config import SCOPE_GROUPS, SCOPE_USERS
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import GATEWAY, Organisation, mail, register

pytestmark = pytest.mark.anyio


class Directory:
    """What the administrator does in the provider's directory."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._world = organisation.emulators.world
        self._microsoft = organisation.provider is Provider.MICROSOFT
        self._hands = Hands(organisation)

    def may_read_groups(self) -> None:
        if self._microsoft:
            tenant = next(iter(self._world.microsoft.tenants))
            self._world.microsoft.grant(tenant, self._organisation.emulators.client_id, ["GroupMember.Read.All"])
        else:
            scopes = ["https://www.googleapis.com/auth/gmail.modify", SCOPE_USERS, SCOPE_GROUPS]
            self._world.google.delegate("C0kasuga", self._hands._google_client(), scopes)

    def group(self, *addresses: str) -> DirectoryGroup:
        address = f"pilot@{self._organisation.domain}"
        if self._microsoft:
            state = self._world.microsoft
            people = [state.person(person) for person in addresses]
            made = state.add_group(next(iter(state.tenants.values())), "Pilot", people, address)
            return DirectoryGroup(made.id, address, "Pilot")
        group = self._world.google.create_group(address, "Pilot", addresses)
        return DirectoryGroup(group.id, address, "Pilot")

    def members(self, group: DirectoryGroup, *addresses: str) -> None:
        if self._microsoft:
            state = self._world.microsoft
            state.set_members(state.groups[group.id], [state.person(person) for person in addresses])
        else:
            google = self._world.google
            google.set_group_members(google.accounts.groups[group.id], addresses)

    def remove(self, group: DirectoryGroup) -> None:
        if self._microsoft:
            self._world.microsoft.remove_group(self._world.microsoft.groups[group.id])
        else:
            self._world.google.remove_group(self._world.google.accounts.groups[group.id])

    def hire(self, name: str) -> str:
        address = f"{name}@{self._organisation.domain}"
        if self._microsoft:
            state = self._world.microsoft
            state.add_person(next(iter(state.tenants.values())), name.title(), address)
        else:
            self._world.google.create_user(NewUser(address, name.title()))
        return address

    def fail(self) -> None:
        path = r"/users(\?|$)"
        self._world.faults.add(FaultRule(FaultKind.UNAVAILABLE, path, "GET", limit=None))

    def recover(self) -> None:
        self._world.faults.clear()


async def refresh(organisation: Organisation) -> MailboxChoice:
    await refresh_mailboxes(organisation.runtime, organisation.tenant_id)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return await session.get_one(MailboxChoice, organisation.tenant_id)


async def taken(organisation: Organisation) -> dict[str, str]:
    """Address of each known mailbox -> why it is left out, or empty."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        rows = list(await session.scalars(select(MailboxRow)))
    assert all(row.enabled == (row.left_out in ("", "out_of_scope", "unavailable")) for row in rows)
    return {row.address.partition("@")[0]: row.left_out for row in rows}


async def said(organisation: Organisation, action: str) -> Sequence[AuditEntry]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        found = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
        return (await session.scalars(found)).all()


async def choose(organisation: Organisation, *groups: DirectoryGroup) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await choose_groups(session, organisation.actor, list(groups))


async def test_only_members_of_the_group_are_protected_and_who_joins_or_leaves_is_within_the_hour(
    organisation: Organisation,
) -> None:
    directory, (ada, ben) = Directory(organisation), organisation.people
    directory.may_read_groups()
    group = directory.group(ada)
    await choose(organisation, group)
    assert (await refresh(organisation)).state == "done"
    assert await taken(organisation) == {"ada": "", "ben": "not_chosen"}
    assert await organisation.waiting("mailbox.stop")

    for address in (ada, ben):
        organisation.deliver(address, mail(address))
        await organisation.sync(address)
    assert [GATEWAY in organisation.readable(address)[0] for address in (ada, ben)] == [True, False]

    directory.members(group, ben)
    await probe(organisation.runtime, organisation.tenant_id)
    assert await taken(organisation) == {"ada": "not_chosen", "ben": ""}
    line = (await said(organisation, "mailboxes.refreshed"))[-1]
    assert (line.detail["who_joined"], line.detail["who_left"]) == ([ben], [ada])
    assert line.actor_kind == "system"
    await organisation.sync(ben)
    assert GATEWAY in organisation.readable(ben)[0]


async def test_a_group_that_is_gone_changes_nothing_and_says_so(organisation: Organisation) -> None:
    directory, (ada, _) = Directory(organisation), organisation.people
    directory.may_read_groups()
    group = directory.group(ada)
    await choose(organisation, group)
    await refresh(organisation)
    directory.remove(group)

    choice = await refresh(organisation)

    assert (choice.state, await taken(organisation)) == ("failed", {"ada": "", "ben": "not_chosen"})
    assert "no group" in choice.error


async def test_without_the_permission_for_groups_nothing_changes_and_it_is_named(organisation: Organisation) -> None:
    directory, (ada, _) = Directory(organisation), organisation.people
    await choose(organisation, directory.group(ada))

    choice = await refresh(organisation)

    assert choice.state == "failed"
    assert "group" in choice.error.lower()
    assert await taken(organisation) == {"ada": "", "ben": ""}


async def test_a_list_takes_in_what_it_names_and_counts_what_nobody_has(organisation: Organisation) -> None:
    ada, _ = organisation.people
    text = f"Address\r\nAda <{ada.upper()}>; nobody@{organisation.domain},not-an-address\r\n{ada}"
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        read = await choose_list(session, organisation.actor, text)
    assert read.addresses == (ada, f"nobody@{organisation.domain}")
    assert read.refused == ("Address", "not-an-address")

    choice = await refresh(organisation)

    assert (choice.mode, choice.chosen, choice.refused_count) == ("list", 1, 2)
    assert await taken(organisation) == {"ada": "", "ben": "not_chosen"}
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert await unknown_addresses(session, 10) == (1, [f"nobody@{organisation.domain}"])


async def test_a_list_without_any_address_is_refused_and_changes_nothing(organisation: Organisation) -> None:
    with pytest.raises(Refused, match="no mail address"):
        async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
            await choose_list(session, organisation.actor, "none of\nthese")
    assert (await refresh(organisation)).mode == "all"


async def test_choosing_everything_again_takes_the_others_in(organisation: Organisation) -> None:
    ada, ben = organisation.people
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await choose_list(session, organisation.actor, ada)
    await refresh(organisation)
    organisation.deliver(ben, mail(ben))
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await choose_all(session, organisation.actor)
    await refresh(organisation)
    assert await taken(organisation) == {"ada": "", "ben": ""}
    await organisation.sync(ben)
    assert GATEWAY in organisation.readable(ben)[0]


async def test_a_directory_that_does_not_answer_empties_nothing_and_is_read_again(organisation: Organisation) -> None:
    directory = Directory(organisation)
    directory.fail()
    choice = await refresh(organisation)
    assert choice.state == "failed"
    assert await taken(organisation) == {"ada": "", "ben": ""}
    assert len(await organisation.waiting("mailboxes.refresh")) == 1
    directory.recover()
    assert (await refresh(organisation)).state == "done"


async def test_who_is_hired_is_protected_by_the_next_reading(organisation: Organisation) -> None:
    cleo = Directory(organisation).hire("cleo")
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await request_refresh(session, organisation.actor)
    assert len(await organisation.waiting("mailboxes.refresh")) == 1
    await refresh(organisation)
    assert await taken(organisation) == {"ada": "", "ben": "", "cleo": ""}
    organisation.deliver(cleo, mail(cleo))
    await organisation.sync(cleo)
    assert GATEWAY in organisation.readable(cleo)[0]


async def test_reading_again_and_again_changes_and_says_nothing_more(organisation: Organisation) -> None:
    await refresh(organisation)
    before = len(await said(organisation, "mailboxes.refreshed"))
    await refresh(organisation)
    await refresh(organisation)
    assert len(await said(organisation, "mailboxes.refreshed")) == before


async def test_two_tenants_cannot_be_bound_to_one_organisation_of_the_provider(organisation: Organisation) -> None:
    db = organisation.runtime.db
    async with db.tenant(organisation.tenant_id) as session:
        bound = (await session.get_one(Tenant, organisation.tenant_id)).organisation_id
        grant, _ = await grant_of(session, organisation.tenant_id)
    assert bound
    assert grant.organisation_id == bound

    # The same people under another of the organisation's domains.
    other = organisation.other_name()
    with pytest.raises(Conflict, match="connected already"):
        await register(db, organisation.runtime, other)
    async with db.tenant(organisation.tenant_id) as session:
        assert (await session.get_one(Tenant, organisation.tenant_id)).organisation_id == bound


async def test_a_tenant_is_not_moved_to_another_organisation(organisation: Organisation) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        grant, _ = await grant_of(session, organisation.tenant_id)
    with pytest.raises(Conflict, match="another organisation"):
        await bind_organisation(organisation.runtime.db, grant, "C0somebody-else")


async def test_a_mailbox_out_of_scope_is_left_alone_and_taken_up_once_it_is_given(organisation: Organisation) -> None:
    if organisation.provider is not Provider.MICROSOFT:
        pytest.skip("only Exchange gives mailboxes one by one")
    state, (ada, ben) = organisation.emulators.world.microsoft, organisation.people
    (tenant,) = state.tenants.values()
    state.revoke(tenant.id, organisation.emulators.client_id)
    state.grant(tenant.id, organisation.emulators.client_id, ["User.Read.All"])
    roles = ["Mail.ReadWrite", "Mail-Advanced.ReadWrite.All"]
    state.grant_scoped(tenant.id, organisation.emulators.client_id, roles, [state.person(ben)])
    await organisation.restart()
    for address in (ada, ben):
        organisation.deliver(address, mail(address))
        await organisation.sync(address)

    assert await taken(organisation) == {"ada": "out_of_scope", "ben": ""}
    assert [GATEWAY in organisation.readable(address)[0] for address in (ada, ben)] == [False, True]
    await probe(organisation.runtime, organisation.tenant_id)
    await renew(organisation.runtime, organisation.tenant_id)
    assert await taken(organisation) == {"ada": "out_of_scope", "ben": ""}
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert (await session.get_one(Tenant, organisation.tenant_id)).status == "active"
        row = (await session.scalars(select(MailboxRow).where(MailboxRow.address == ada))).one()
        assert row.error == ""
        await request_refresh(session, organisation.actor)

    state.grant_scoped(tenant.id, organisation.emulators.client_id, roles, [state.person(ada), state.person(ben)])
    await organisation.sync(ada)
    assert await taken(organisation) == {"ada": "", "ben": ""}
    assert GATEWAY in organisation.readable(ada)[0]


async def test_a_permission_taken_away_altogether_is_noticed_by_the_hourly_probe(organisation: Organisation) -> None:
    if organisation.provider is not Provider.MICROSOFT:
        pytest.skip("at Google the grant as a whole is gone")
    state = organisation.emulators.world.microsoft
    (tenant,) = state.tenants.values()
    state.revoke(tenant.id, organisation.emulators.client_id)
    state.grant(tenant.id, organisation.emulators.client_id, ["User.Read.All"])
    await organisation.restart()
    await probe(organisation.runtime, organisation.tenant_id)
    await probe(organisation.runtime, organisation.tenant_id)
    assert len(await said(organisation, "tenant.blocked")) == 1
