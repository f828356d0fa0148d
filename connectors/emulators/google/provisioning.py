"""Setting up the emulated Google: domains, people, service accounts, topics, and what is granted."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.faults import Faults
from connectors.emulators.google.accounts import (
    Accounts,
    Customer,
    Delegation,
    Group,
    NewUser,
    OAuthClient,
    ServiceAccount,
    User,
)
from connectors.emulators.google.behaviour import Behaviour
from connectors.emulators.google.files import DriveFile
from connectors.emulators.google.keys import SigningKey
from connectors.emulators.google.mailbox import Mailbox
from connectors.emulators.google.pubsub import GMAIL_PUBLISHER, PubSub, Subscription, Topic
from connectors.emulators.google.quota import Quota
from connectors.emulators.google.tokens import Tokens


class Provisioning:
    """Who exists and who may do what. The public part of :class:`GoogleState` for setting up."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8090/google",
        *,
        clock: Clock | None = None,
        faults: Faults | None = None,
        behaviour: Behaviour | None = None,
        seed: int | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.clock = clock or Clock()
        self.faults = faults or Faults()
        self.behaviour = behaviour or Behaviour()
        self.lock = threading.RLock()
        self.accounts = Accounts()
        self.mailboxes_by_user: dict[str, Mailbox] = {}
        self.tokens = Tokens(self.clock.timestamp)
        self.quota = Quota(self.clock.timestamp)
        self.signing_key = signing_key or SigningKey.generate()
        self.pubsub = PubSub(self.clock.timestamp, self.faults)
        self.files: dict[str, DriveFile] = {}
        self._rng = random.Random(seed)  # noqa: S311 - ids and history gaps, no secrets

    @staticmethod
    def real_time() -> float:
        """Seconds since the epoch for signed tokens: clients check them by their own clock, not ours."""
        return time.time()

    @property
    def issuer(self) -> str:
        """``iss`` of every ID token."""
        return self.behaviour.issuer or self.base_url

    def create_domain(
        self, domain: str, customer_id: str, users: Iterable[NewUser] = (), *, aliases: Iterable[str] = ()
    ) -> Customer:
        """Make a Workspace customer with a primary domain, further domains and people.

        Raises:
            ValueError: The customer or one of the domains or addresses exists already.
        """
        with self.lock:
            domains = [domain.lower(), *(alias.lower() for alias in aliases)]
            taken = [name for name in domains if self.accounts.customer_of_domain(name)]
            if customer_id in self.accounts.customers or taken:
                raise ValueError(f"Customer {customer_id} or domain {', '.join(taken or domains)} exists.")
            customer = Customer(customer_id, domains, self.clock.timestamp())
            self.accounts.customers[customer_id] = customer
            for user in users:
                self.create_user(user)
            return customer

    def create_user(self, new: NewUser) -> User:
        """Add a person; an address outside every Workspace domain is a consumer account.

        Raises:
            ValueError: The address is taken.
        """
        with self.lock:
            for address in (new.email, *new.aliases):
                if self.accounts.user(address) or self.accounts.group(address):
                    raise ValueError(f"The address {address} is taken.")
            customer = self.accounts.customer_of_domain(new.email.rpartition("@")[2])
            user = User(
                id=str(self._rng.randrange(10**20, 10**21)),
                email=new.email.lower(),
                name=new.name,
                customer=customer.id if customer else "",
                admin=new.admin,
                delegated_admin=new.delegated_admin,
                suspended=new.suspended,
                mailbox=new.mailbox,
                aliases=[alias.lower() for alias in new.aliases],
                created=self.clock.timestamp(),
            )
            self.accounts.add_user(user)
            self.mailboxes_by_user[user.id] = self._new_mailbox(user.email)
            return user

    def create_group(
        self, email: str, name: str, members: Mapping[str, str] | Iterable[str], description: str = ""
    ) -> Group:
        """Add a group; members are addresses, or addresses with OWNER, MANAGER or MEMBER.

        Raises:
            ValueError: The address is taken or its domain belongs to no customer.
        """
        with self.lock:
            customer = self.accounts.customer_of_domain(email.rpartition("@")[2])
            if customer is None or self.accounts.user(email) or self.accounts.group(email):
                raise ValueError(f"No customer has the domain of {email}, or the address is taken.")
            if not isinstance(members, Mapping):
                members = dict.fromkeys(members, "MEMBER")
            group = Group(secrets.token_hex(8), email.lower(), name, description, customer.id, dict(members))
            self.accounts.groups[group.id] = group
            return group

    def set_group_members(self, group: Group, members: Iterable[str]) -> None:
        """Who is directly in a group from now on, by address."""
        with self.lock:
            group.members = dict.fromkeys(members, "MEMBER")

    def remove_group(self, group: Group) -> None:
        """Delete a group."""
        with self.lock:
            self.accounts.groups.pop(group.id, None)

    def create_service_account(self, email: str, key: SigningKey | None = None) -> dict[str, str]:
        """Make a service account ``name@project.iam.gserviceaccount.com`` with one key.

        Args:
            email: The account's address.
            key: Its key; by default a new one.

        Returns:
            The content of the JSON key file
            (https://cloud.google.com/iam/docs/keys-create-delete#creating), with this emulator's token_uri.
        """
        with self.lock:
            project = email.partition("@")[2].partition(".")[0]
            client_id = str(self._rng.randrange(10**20, 10**21))
            key = key or SigningKey.generate()
            self.accounts.service_accounts[email] = ServiceAccount(email, client_id, project, [key])
            return {
                "type": "service_account",
                "project_id": project,
                "private_key_id": key.key_id,
                "private_key": key.pem,
                "client_email": email,
                "client_id": client_id,
                "auth_uri": f"{self.base_url}/o/oauth2/v2/auth",
                "token_uri": f"{self.base_url}/token",
                "auth_provider_x509_cert_url": f"{self.base_url}/oauth2/v1/certs",
                "client_x509_cert_url": f"{self.base_url}/robot/v1/metadata/x509/{email}",
                "universe_domain": "googleapis.com",
            }

    def create_oauth_client(self, redirect_uris: Iterable[str]) -> OAuthClient:
        """Register a web application for sign-in; redirect addresses are compared exactly."""
        with self.lock:
            client = OAuthClient(
                f"{self._rng.randrange(10**11, 10**12)}-{secrets.token_hex(16)}.apps.googleusercontent.com",
                f"GOCSPX-{secrets.token_urlsafe(21)}",
                list(redirect_uris),
            )
            self.accounts.oauth_clients[client.client_id] = client
            return client

    def create_topic(self, name: str, *, gmail_may_publish: bool = True) -> Topic:
        """Make ``projects/<project>/topics/<topic>``, by default with the grant that Gmail needs."""
        with self.lock:
            topic = self.pubsub.topics.setdefault(name, Topic(name))
            if gmail_may_publish:
                topic.bindings["roles/pubsub.publisher"] = [GMAIL_PUBLISHER]
            return topic

    def create_subscription(
        self,
        name: str,
        topic: str,
        *,
        push_endpoint: str | None = None,
        audience: str | None = None,
        service_account_email: str | None = None,
        ack_deadline: int = 10,
    ) -> Subscription:
        """Make ``projects/<project>/subscriptions/<name>``: push with a signed token, or pull.

        Raises:
            ValueError: The topic does not exist, or the push address is not on loopback.
        """
        fields: dict[str, Any] = {"ackDeadlineSeconds": ack_deadline, "expirationPolicy": {}}
        if push_endpoint is not None:
            fields["pushConfig"] = {"pushEndpoint": push_endpoint}
            if service_account_email is not None:
                token = {"serviceAccountEmail": service_account_email, "audience": audience}
                fields["pushConfig"]["oidcToken"] = {k: v for k, v in token.items() if v is not None}
        with self.lock:
            return self.pubsub.subscribe(name, topic, fields)

    # Granting and taking back

    def delegate(self, customer_id: str, client_id: str, scopes: Iterable[str]) -> None:
        """What a super administrator enters under "Domain-wide delegation"; replaces the client's line.

        https://support.google.com/a/answer/162106
        """
        with self.lock:
            customer = self.accounts.customers[customer_id]
            customer.delegations[client_id] = Delegation(list(dict.fromkeys(scopes)), self.clock.timestamp())

    def revoke_delegation(self, customer_id: str, client_id: str, *, drop_tokens: bool = False) -> None:
        """Take the line away. Tokens that were issued live on for their hour unless they are dropped too."""
        with self.lock:
            self.accounts.customers[customer_id].delegations.pop(client_id, None)
            if drop_tokens:
                self.tokens.drop(
                    lambda grant: grant.client == client_id and self._customer_of(grant.subject) == customer_id
                )

    def suspend(self, address: str, suspended: bool = True) -> None:
        """Suspend a user, or lift it.

        Raises:
            KeyError: There is no such user.
        """
        with self.lock:
            self.user(address).suspended = suspended

    def delete_user(self, address: str) -> None:
        """Delete a user with the mailbox.

        Raises:
            KeyError: There is no such user.
        """
        with self.lock:
            user = self.user(address)
            user.deleted = True
            del self.mailboxes_by_user[user.id]

    def expire_history(self, address: str) -> None:
        """Forget the history up to now: every earlier start id answers 404."""
        with self.lock:
            mailbox = self.mailbox(address)
            mailbox.forget_history(self.clock.timestamp())
            mailbox.history_floor = max(mailbox.history_floor, mailbox.history_id)

    # Finding

    def find_user(self, address: str) -> User | None:
        """A user by address, alias or ``user+tag@domain``, or None."""
        local, _, domain = address.partition("@")
        return self.accounts.user(address) or self.accounts.user(f"{local.partition('+')[0]}@{domain}")

    def user(self, address: str) -> User:
        """A user by address, alias or ``user+tag@domain``.

        Raises:
            KeyError: There is none.
        """
        user = self.find_user(address)
        if user is None:
            raise KeyError(address)
        return user

    def mailbox(self, address: str) -> Mailbox:
        """A user's mailbox.

        Raises:
            KeyError: There is none.
        """
        return self.mailboxes_by_user[self.user(address).id]

    # Inside

    def _customer_of(self, address: str | None) -> str:
        user = self.accounts.user(address) if address else None
        return user.customer if user else ""

    def _new_mailbox(self, address: str) -> Mailbox:
        return Mailbox(address, self.clock.timestamp, self._rng, self._changed)

    def _changed(self, mailbox: Mailbox, labels: set[str]) -> None:
        """Called once per change of a mailbox; :class:`GoogleState` notifies watches."""
