"""Who exists: Workspace customers with their people and groups, service accounts, OAuth clients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.emulators.google.keys import SigningKey


@dataclass(frozen=True, slots=True)
class NewUser:
    """A person to be created.

    Attributes:
        email: Primary address.
        name: Full name; the last word is the family name.
        admin: A super administrator.
        delegated_admin: Has an administrator role that may read users, as the help desk's may.
        suspended: Cannot be used until an administrator lifts it.
        mailbox: Whether the person has a Gmail licence.
        aliases: Further addresses.
    """

    email: str
    name: str
    admin: bool = False
    suspended: bool = False
    mailbox: bool = True
    aliases: tuple[str, ...] = ()
    delegated_admin: bool = False


@dataclass(slots=True)
class User:
    """A person. ``customer`` is empty for a consumer account (no ``hd`` claim, no Directory)."""

    id: str
    email: str
    name: str
    customer: str
    admin: bool = False
    suspended: bool = False
    mailbox: bool = True
    aliases: list[str] = field(default_factory=list)
    created: float = 0.0
    deleted: bool = False
    delegated_admin: bool = False

    @property
    def given_name(self) -> str:
        """Everything but the last word of the name."""
        return self.name.rpartition(" ")[0] or self.name

    @property
    def family_name(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(" ")[2]

    @property
    def domain(self) -> str:
        """The address's domain."""
        return self.email.rpartition("@")[2]

    def addresses(self) -> list[str]:
        """Primary address and aliases."""
        return [self.email, *self.aliases]


@dataclass(slots=True)
class Group:
    """A group; ``members`` maps an address (of a user or a group) to OWNER, MANAGER or MEMBER."""

    id: str
    email: str
    name: str
    description: str
    customer: str
    members: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Delegation:
    """One line of the domain-wide delegation table. ``since`` is seconds since the epoch."""

    scopes: list[str]
    since: float


@dataclass(slots=True)
class Customer:
    """A Workspace account.

    Attributes:
        id: Like ``C03az79cb``.
        domains: The primary one first.
        created: Seconds since the epoch.
        delegations: The domain-wide delegation table, by client id.
        gmail_api: False where the administrators have disabled Gmail apps (403 ``domainPolicy``).
    """

    id: str
    domains: list[str]
    created: float
    delegations: dict[str, Delegation] = field(default_factory=dict)
    gmail_api: bool = True


@dataclass(slots=True)
class ServiceAccount:
    """A service account of a Cloud project.

    Attributes:
        token_creators: Service accounts with the role Service Account Token Creator on this one.
    """

    email: str
    client_id: str
    project: str
    keys: list[SigningKey]
    token_creators: set[str] = field(default_factory=set)


@dataclass(slots=True)
class OAuthClient:
    """A web application registered for sign-in."""

    client_id: str
    secret: str = field(repr=False)
    redirect_uris: list[str] = field(default_factory=list)


class Accounts:
    """All accounts, found by address (without regard to case), alias or id."""

    def __init__(self) -> None:
        self.customers: dict[str, Customer] = {}
        self.users: dict[str, User] = {}
        self._by_address: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.service_accounts: dict[str, ServiceAccount] = {}
        self.oauth_clients: dict[str, OAuthClient] = {}

    def user(self, key: str) -> User | None:
        """A user that is not deleted, by address, alias or id."""
        user = self.users.get(key) or self._by_address.get(key.lower())
        return None if user is None or user.deleted else user

    def add_user(self, user: User) -> None:
        """Make a user findable; addresses and aliases do not change afterwards."""
        self.users[user.id] = user
        for address in user.addresses():
            if address.lower() not in self._by_address or not user.deleted:
                self._by_address[address.lower()] = user

    def group(self, key: str) -> Group | None:
        """A group by address or id."""
        wanted = key.lower()
        for group in self.groups.values():
            if key == group.id or wanted == group.email.lower():
                return group
        return None

    def of_customer(self, customer: str) -> Iterator[User]:
        """The users of a customer that are not deleted, by address."""
        found = (u for u in self.users.values() if u.customer == customer and not u.deleted)
        return iter(sorted(found, key=lambda user: user.email))

    def groups_of(self, address: str) -> list[Group]:
        """The groups a user or group is a direct member of."""
        wanted = address.lower()
        return [g for g in self.groups.values() if wanted in map(str.lower, g.members)]

    def people_in(self, group: Group, seen: Iterable[str] = ()) -> dict[str, User]:
        """The users in a group and in the groups within it, by address."""
        visited = {*seen, group.email}
        found: dict[str, User] = {}
        for address in group.members:
            user = self.user(address)
            inner = self.group(address)
            if user is not None:
                found[user.email] = user
            elif inner is not None and inner.email not in visited:
                found.update(self.people_in(inner, visited))
        return found

    def customer_of_domain(self, domain: str) -> Customer | None:
        """The customer a domain belongs to."""
        wanted = domain.lower()
        return next((c for c in self.customers.values() if wanted in c.domains), None)

    def service_account_of(self, key: str) -> ServiceAccount | None:
        """A service account by address or numeric client id."""
        found = self.service_accounts.get(key)
        return found or next((s for s in self.service_accounts.values() if s.client_id == key), None)

    def save(self) -> dict[str, Any]:
        """Plain data for JSON; holds private keys and client secrets."""
        return {
            "customers": [asdict(c) for c in self.customers.values()],
            "users": [asdict(u) for u in self.users.values()],
            "groups": [asdict(g) for g in self.groups.values()],
            "service_accounts": [
                {
                    "email": s.email,
                    "client_id": s.client_id,
                    "project": s.project,
                    "keys": [key.save() for key in s.keys],
                    "token_creators": sorted(s.token_creators),
                }
                for s in self.service_accounts.values()
            ],
            "oauth_clients": [asdict(c) for c in self.oauth_clients.values()],
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Accounts:
        """The reverse of :meth:`save`."""
        accounts = cls()
        for item in data["customers"]:
            table = {client: Delegation(**line) for client, line in item["delegations"].items()}
            customer = Customer(**{**item, "delegations": table})
            accounts.customers[customer.id] = customer
        for item in data["users"]:
            accounts.add_user(User(**item))
        for item in data["groups"]:
            accounts.groups[item["id"]] = Group(**item)
        for item in data["service_accounts"]:
            accounts.service_accounts[item["email"]] = ServiceAccount(
                item["email"],
                item["client_id"],
                item["project"],
                [SigningKey.load(key) for key in item["keys"]],
                set(item["token_creators"]),
            )
        for item in data["oauth_clients"]:
            accounts.oauth_clients[item["client_id"]] = OAuthClient(**item)
        return accounts
