"""The directory of the emulated tenants: organisations, people, groups, applications and their grants."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from datetime import datetime

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.records import RecordStore
from connectors.emulators.microsoft import ids
from connectors.emulators.microsoft.model import Application, Grant, Group, Person, Switches, Tenant


class DirectoryState:
    """Who exists and who may do what. The part of :class:`MicrosoftState` that holds no mail.

    Args:
        clock: The emulated time.
        store: Where changed records are marked; see :mod:`connectors.emulators.microsoft.keeping`.
        seed: For ids that repeat from run to run; None draws them from the system.
    """

    def __init__(self, clock: Clock | None = None, store: RecordStore | None = None, seed: int | None = None) -> None:
        self.clock = clock or Clock()
        self.store = store or RecordStore(None)
        self.lock = threading.RLock()
        self.random = random.Random(seed)  # noqa: S311  # ids of an emulator protect nothing
        self.tenants: dict[str, Tenant] = {}
        self.people: dict[str, Person] = {}
        self.groups: dict[str, Group] = {}
        self.applications: dict[str, Application] = {}
        self.switches = Switches()
        self.signing_key: str | None = None
        self._people_by_address: dict[str, Person] = {}

    def add_tenant(self, name: str, domain: str, tenant_id: str | None = None) -> Tenant:
        """A new organisation with one verified domain."""
        with self.lock:
            tenant = Tenant(tenant_id or ids.new_guid(self.random), name, [domain.lower()])
            self.tenants[tenant.id] = tenant
            self.mark("tenant", tenant.id)
            return tenant

    def add_group(
        self, tenant: Tenant, name: str, members: Iterable[Person | Group], address: str | None = None
    ) -> Group:
        """A group with its direct members."""
        with self.lock:
            group = Group(ids.new_guid(self.random), tenant.id, name, address, [person.id for person in members])
            self.groups[group.id] = group
            self.mark("group", group.id)
            return group

    def set_members(self, group: Group, members: Iterable[Person | Group]) -> None:
        """Who is directly in a group from now on."""
        with self.lock:
            group.members = [member.id for member in members]
            self.mark("group", group.id)

    def members_of(self, group: Group, *, deep: bool) -> tuple[list[Person], list[Group]]:
        """The users and the groups in a group; ``deep``: in the groups within it too, each once."""
        users: dict[str, Person] = {}
        groups: dict[str, Group] = {}
        waiting = [group]
        while waiting:
            for member in waiting.pop().members:
                inner = self.groups.get(member)
                if inner is None:
                    if member in self.people:  # a deleted group leaves its id behind
                        users[member] = self.people[member]
                elif inner.id not in groups:
                    groups[inner.id] = inner
                    if deep:
                        waiting.append(inner)
        return list(users.values()), list(groups.values())

    def remove_group(self, group: Group) -> None:
        """Delete a group."""
        with self.lock:
            self.groups.pop(group.id, None)
            self.mark("group", group.id)

    def put_application(self, application: Application) -> None:
        """Register an application, or replace its registration."""
        with self.lock:
            self.applications[application.client_id] = application
            self.mark("application", application.client_id)

    def grant(self, tenant_id: str, client_id: str, roles: Iterable[str]) -> None:
        """What accepting admin consent does: the service principal exists and has these app roles."""
        with self.lock:
            grant = self.tenants[tenant_id].grants.setdefault(client_id, Grant())
            grant.roles = sorted(set(grant.roles) | set(roles))
            grant.enabled = True
            self.mark("tenant", tenant_id)

    def grant_scoped(self, tenant_id: str, client_id: str, roles: Iterable[str], people: Iterable[Person]) -> None:
        """What ``New-ManagementRoleAssignment -App`` with a resource scope does: rights over some mailboxes.

        https://learn.microsoft.com/exchange/permissions-exo/application-rbac
        """
        with self.lock:
            grant = self.tenants[tenant_id].grants[client_id]
            grant.scoped_roles = sorted(set(roles))
            grant.scoped_to = [person.id for person in people]
            self.mark("tenant", tenant_id)

    def scoped_roles(self, tenant_id: str, client_id: str, person: Person) -> frozenset[str]:
        """Rights of an application over one mailbox beyond those in its token."""
        grant = self.tenants[tenant_id].grants.get(client_id)
        if grant is None or person.id not in grant.scoped_to:
            return frozenset()
        return frozenset(grant.scoped_roles)

    def revoke(self, tenant_id: str, client_id: str) -> None:
        """What deleting the enterprise application does: no service principal, no grants."""
        with self.lock:
            self.tenants[tenant_id].grants.pop(client_id, None)
            self.mark("tenant", tenant_id)

    def person(self, key: str, tenant_id: str | None = None) -> Person:
        """A person by object id, userPrincipalName or alias.

        Raises:
            KeyError: There is none, or none in this tenant.
        """
        with self.lock:
            person = self.people.get(key) or self._people_by_address.get(key.lower())
            if person is None or (tenant_id is not None and person.tenant_id != tenant_id):
                raise KeyError(key)
            return person

    def people_of(self, tenant_id: str) -> list[Person]:
        """All people of a tenant, in the order they were added."""
        with self.lock:
            return [person for person in self.people.values() if person.tenant_id == tenant_id]

    def add_alias(self, person: Person, alias: str) -> None:
        """A further address of a mailbox."""
        with self.lock:
            person.aliases.append(alias.lower())
            self.index(person)
            self.mark("person", person.id)

    def expired(self, moment: datetime) -> bool:
        """Whether a moment has passed."""
        return moment <= self.clock.now()

    def mark(self, kind: str, key: str) -> None:
        """This record has to be written at the next flush."""
        self.store.mark(kind, key)

    def index(self, person: Person) -> None:
        """Make a person findable."""
        self.people[person.id] = person
        for address in (person.address, *person.aliases):
            self._people_by_address[address.lower()] = person
