"""Everything that is emulated, in one object: the server serves it, tests and the demo control it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.faults import Faults
from connectors.emulators.common.notify import RETRY_DELAYS, Notifier
from connectors.emulators.common.records import RecordStore
from connectors.emulators.demo.feed import TURNS_BAD, write_feed
from connectors.emulators.demo.sites import Sites
from connectors.emulators.google.keys import SigningKey
from connectors.emulators.google.state import GoogleState
from connectors.emulators.microsoft import keeping
from connectors.emulators.microsoft.graph import MailboxThrottle
from connectors.emulators.microsoft.model import Application
from connectors.emulators.microsoft.service import MicrosoftService
from connectors.emulators.microsoft.tokens import certificate_of, new_key

GRAPH_ROLES = ("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All", "User.Read.All")
"""App roles of the registered application where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to start the emulators.

    Attributes:
        state_dir: Where to keep the state; None keeps nothing.
        microsoft_client_id: Client id of the application registered in the emulated Entra ID.
        microsoft_client_secret: Its secret; None registers none, for certificates alone.
        microsoft_certificate: Public certificate of the application, PEM.
        microsoft_roles: App roles it asks for.
        microsoft_redirect_uris: Registered redirect addresses; empty allows every loopback address.
        seed: For ids and faults that repeat from run to run.
        feed_file: Where to write the demo's list of bad addresses; None writes none.
        retry_delays: Seconds between tries of a notification.
    """

    state_dir: Path | None = None
    microsoft_client_id: str = "7e3f1c52-5f0f-4c1b-9d53-0c9f5d0b7a11"
    microsoft_client_secret: str | None = None
    microsoft_certificate: str | None = None
    microsoft_roles: tuple[str, ...] = GRAPH_ROLES
    microsoft_redirect_uris: tuple[str, ...] = ()
    seed: int | None = None
    feed_file: Path | None = None
    retry_delays: tuple[float, ...] = field(default=RETRY_DELAYS)

    def __repr__(self) -> str:
        return f"Options(state_dir={self.state_dir!r}, microsoft_client_id={self.microsoft_client_id!r})"


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that sign tokens, made beforehand: making them takes longer than anything else here."""

    microsoft: str
    google: SigningKey

    @classmethod
    def generate(cls) -> Keys:
        """New keys for both providers."""
        return cls(new_key(), SigningKey.generate())

    def __repr__(self) -> str:
        return "Keys()"


class World:
    """The emulated providers and what they have in common.

    Args:
        options: How to start.
        keys: Used where the kept state has none; by default made as needed.

    Attributes:
        base_url: Where the server is reached; empty until it listens.
        throttle: Counts requests per mailbox; None until the app is made.
    """

    def __init__(self, options: Options | None = None, keys: Keys | None = None) -> None:
        self.options = options or Options()
        self.base_url = ""
        self.throttle: MailboxThrottle | None = None
        self.clock = Clock()
        self.faults = Faults(self.options.seed or 0)
        self.notifier = Notifier(self.faults, retry_delays=self.options.retry_delays, now=self.clock.timestamp)
        directory = self.options.state_dir
        self._common = RecordStore(directory / "emulators.sqlite" if directory else None)
        self._remembered = {key: json.loads(body) for key, body in self._common.read("remembered")}
        for _, body in self._common.read("clock"):
            self.clock.set_offset(float(body))
        self._saved_offset = self.clock.offset
        self.microsoft = keeping.open_state(
            directory / "microsoft.sqlite" if directory else None, self.clock, self.options.seed
        )
        if keys is not None and self.microsoft.signing_key is None:
            self.microsoft.signing_key = keys.microsoft
            self.microsoft.mark("signing_key", "current")
        self.microsoft_service = MicrosoftService(self.microsoft, self.notifier)
        self._register_application()
        self.sites = Sites({TURNS_BAD} if self.recall("turned") else set())
        self.google = GoogleState(
            clock=self.clock,
            faults=self.faults,
            seed=self.options.seed,
            signing_key=keys.google if keys is not None else None,
        )
        self.microsoft.send = self._route_mail
        self._google_store = RecordStore(directory / "google.sqlite" if directory else None)
        self._google_seen: dict[str, object] = {}
        self._google_parts: dict[str, bytes] = {}
        self._load_google()

    @property
    def is_new(self) -> bool:
        """Whether there is no organisation yet: the demo is seeded once."""
        return not self.microsoft.tenants and not self.google.accounts.customers

    @property
    def client_secret(self) -> str:
        """The application's client secret.

        Raises:
            LookupError: It has none.
        """
        found = self.microsoft.applications[self.options.microsoft_client_id].secrets
        if not found:
            raise LookupError("the application has no client secret")
        return found[0]

    def set_base(self, base_url: str) -> None:
        """Where the server is reached, e.g. ``http://127.0.0.1:8090``."""
        self.base_url = base_url
        self.microsoft_service.set_base(base_url)
        self.google.base_url = f"{base_url}/google"

    def deliver(self, provider: str, to: str, raw: bytes, *, place: str | None = None) -> str:
        """Deliver a message.

        Args:
            provider: ``microsoft`` or ``google``.
            to: The mailbox.
            raw: The RFC 5322 message.
            place: A well-known folder or a system label other than the inbox.

        Returns:
            The provider's message id (Graph: the immutable one).

        Raises:
            KeyError: No such mailbox or place.
            ValueError: No such provider.
        """
        if provider == "microsoft":
            return self.microsoft.deliver(to, raw, folder=place or "inbox").id
        if provider == "google":
            labels = {"labels": (place.upper(), "UNREAD")} if place else {}
            return self.google.deliver(to, raw, **labels)
        raise ValueError(f"unknown provider {provider!r}: microsoft or google")

    def flush(self) -> None:
        """Write what changed since the last time."""
        keeping.flush(self.microsoft)
        self._flush_google()
        if self.clock.offset != self._saved_offset:
            self._common.mark("clock", "offset")
            self._saved_offset = self.clock.offset
        self._common.flush(self._common_record)

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value across restarts."""
        if self._remembered.get(name) != value:
            self._remembered[name] = value
            self._common.mark("remembered", name)

    def recall(self, name: str) -> Any:
        """A value kept by :meth:`remember`, or None."""
        return self._remembered.get(name)

    def turn_bad(self) -> str:
        """The demo's harmless link turns bad: its website, and the feed file if there is one.

        Returns:
            The host that turned.
        """
        self.sites.turned.add(TURNS_BAD)
        self.remember("turned", True)
        if self.options.feed_file is not None:
            write_feed(self.options.feed_file, turned=True)
        return f"{TURNS_BAD}.localhost"

    @property
    def turned(self) -> bool:
        """Whether the demo's harmless link has turned bad."""
        return TURNS_BAD in self.sites.turned

    def close(self) -> None:
        """Write what changed and close all files."""
        self.flush()
        self.google.close()
        self.microsoft.store.close()
        self._google_store.close()
        self._common.close()

    def _route_mail(self, address: str, raw: bytes) -> None:
        """Mail sent by a Microsoft mailbox arrives wherever the address is."""
        self.microsoft.deliver_if_known(address, raw)
        self.google.deliver_if_known(address, raw)

    def _common_record(self, kind: str, key: str) -> bytes | None:
        if kind == "clock":
            return str(self.clock.offset.total_seconds()).encode()
        return json.dumps(self._remembered[key]).encode()

    def _register_application(self) -> None:
        """The registration follows the options at every start; a secret that was made up is kept."""
        options = self.options
        known = self.microsoft.applications.get(options.microsoft_client_id)
        secret = options.microsoft_client_secret
        if secret is None and options.microsoft_certificate is None:
            secret = known.secrets[0] if known and known.secrets else secrets.token_urlsafe(30)
        certificates = [certificate_of(options.microsoft_certificate)] if options.microsoft_certificate else []
        self.microsoft.put_application(
            Application(
                client_id=options.microsoft_client_id,
                name="Postern",
                secrets=[secret] if secret else [],
                roles=list(options.microsoft_roles),
                certificates=certificates,
                redirect_uris=list(options.microsoft_redirect_uris),
            )
        )

    # Google gives its state as one piece of plain data; here it is cut by mailbox, so that a flush writes
    # only the mailboxes in which something happened.

    def _load_google(self) -> None:
        parts = {key: json.loads(body) for key, body in self._google_store.read("part")}
        if not parts:
            return
        boxes = {key.removeprefix("mailbox/"): value for key, value in parts.items() if key.startswith("mailbox/")}
        rest = {key: value for key, value in parts.items() if not key.startswith("mailbox/")}
        self.google.load({**rest, "mailboxes": boxes})
        self.google.title = self.recall("google_title") or self.google.title

    def _flush_google(self) -> None:
        if not self._google_store.keeps:
            return
        state = self.google
        with state.lock:
            pieces: dict[str, Callable[[], object]] = {
                "signing_key": state.signing_key.save,
                "accounts": state.accounts.save,
                "tokens": state.tokens.save,
                "pubsub": state.pubsub.save,
                "behaviour": state.behaviour.save,
                "files": lambda: {key: file.save() for key, file in state.files.items()},
            }
            for user_id, box in state.mailboxes_by_user.items():
                seen = box.fingerprint
                key = f"mailbox/{user_id}"
                if self._google_seen.get(key) != seen:
                    self._google_seen[key] = seen
                    pieces[key] = box.save
            for key in [key for key in self._google_parts if key.startswith("mailbox/")]:
                if key.removeprefix("mailbox/") not in state.mailboxes_by_user:
                    del self._google_parts[key]
                    self._google_store.mark("part", key)
            for key, save in pieces.items():
                body = json.dumps(save()).encode()
                if self._google_parts.get(key) != body:
                    self._google_parts[key] = body
                    self._google_store.mark("part", key)
        self._google_store.flush(lambda kind, key: self._google_parts.get(key))
