"""The emulated providers of the chaos run, in a process of their own, and the people who receive the mail there."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import multiprocessing.connection
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.testing import Emulators, running_emulators
from tests.integration.protection.world import Provisioned, mail, provider_settings, provision

_NUMBER = re.compile(r"Message (\d+)$")


_REQUESTS = {Provider.MICROSOFT: r"^/(graph|entra)/", Provider.GOOGLE: r"^/google/"}
_NOTIFICATIONS = {provider: f"/hooks/{provider.value}" for provider in Provider}


def weather(roughness: float = 1.0) -> list[FaultRule]:
    """What goes wrong at each provider: each kind once for certain, so that no small run is without it, then by chance.

    The rules that never strike count what passed.
    """
    rules: list[FaultRule] = []
    for provider in Provider:
        by_chance = (
            FaultRule(FaultKind.THROTTLE, _REQUESTS[provider], probability=0.05, retry_after=1.0),
            FaultRule(FaultKind.UNAVAILABLE, _REQUESTS[provider], probability=0.02, retry_after=1.0),
            FaultRule(FaultKind.TIMEOUT_AFTER, _REQUESTS[provider], probability=0.02),
            FaultRule(FaultKind.LOSE, _NOTIFICATIONS[provider], probability=0.10 * roughness, told=False),
            FaultRule(FaultKind.DUPLICATE, _NOTIFICATIONS[provider], probability=0.10 * roughness),
            FaultRule(FaultKind.REORDER, _NOTIFICATIONS[provider], probability=0.10 * roughness, delay=2.0),
        )
        rules.append(FaultRule(FaultKind.LATENCY, _REQUESTS[provider], delay=0.0))
        rules += [dataclasses.replace(rule, probability=1.0, limit=1) for rule in by_chance]
        rules += by_chance
    return rules


def provider_of(number: int) -> Provider:
    """Where message ``number`` is delivered."""
    return list(Provider)[number % 2]


def link(number: int) -> str:
    """The link in message ``number``; no other message has it."""
    return f"https://news.example/read/{number}?x=1&y=2"


@dataclass
class Found:
    """One message as its reader sees it at the end."""

    number: int
    address: str
    text: str
    state: Any


@dataclass
class Report:
    """What the mailboxes hold at the end, and what went wrong on the way.

    Attributes:
        found: Messages that are in no bin.
        wanted: Number -> where it should be and what state it should have.
        delivered: Number -> seconds since the epoch.
        quarantined: Places of quarantine there are.
        faults: (provider, kind) -> how often it was injected.
        requests: To each provider.
        expired: Cursors forgotten.
    """

    found: list[Found] = field(default_factory=list)
    wanted: dict[int, Any] = field(default_factory=dict)
    delivered: dict[int, float] = field(default_factory=dict)
    quarantined: int = 0
    faults: dict[tuple[Provider, str], int] = field(default_factory=dict)
    requests: dict[Provider, int] = field(default_factory=dict)
    expired: dict[Provider, int] = field(default_factory=dict)


class _People:
    """Delivers mail, acts as its readers and looks at the result, inside the emulators' process."""

    def __init__(self, emulators: Emulators, addresses: dict[Provider, list[str]], seed: int) -> None:
        self._world = emulators.world
        self._addresses = addresses
        self._random = random.Random(seed)
        self.report = Report()

    def deliver(self, number: int) -> None:
        """Deliver one message; some are put into a folder by a rule, some are read and flagged at once."""
        provider = provider_of(number)
        self.report.delivered[number] = time.time()
        address = self._random.choice(self._addresses[provider])
        raw = mail(address, f"Message {number}", link(number), n=number)
        filed, seen = self._random.random() < 0.1, self._random.random() < 0.2
        if provider is Provider.MICROSOFT:
            state = self._world.microsoft
            with state.lock:
                message = state.deliver(address, raw, folder="archive" if filed else "inbox")
                if seen:
                    message.is_read, message.flag = True, "flagged"
                    state.changed(message)
            self.report.wanted[number] = (message.folder_id, message.is_read, message.flag)
        else:
            labels = ["Label_1" if filed else "INBOX", *([] if seen else ["UNREAD"]), *(["STARRED"] if seen else [])]
            with self._world.google.lock:
                box = self._world.google.mailbox(address)
                if not any(label.name == "Projects" for label in box.labels.all()):
                    box.labels.create({"name": "Projects"})
                own = next(label.id for label in box.labels.all() if label.name == "Projects")
                labels = [own if label == "Label_1" else label for label in labels]
                message_id = self._world.google.deliver(address, raw, labels)
                self.report.wanted[number] = sorted(box.messages[message_id].labels)

    def expire(self) -> None:
        """Somebody's cursor is forgotten, at both providers."""
        state = self._world.microsoft
        state.expire_delta_tokens(state.person(self._random.choice(self._addresses[Provider.MICROSOFT])).id)
        self._world.google.expire_history(self._random.choice(self._addresses[Provider.GOOGLE]))
        self.report.expired = {provider: self.report.expired.get(provider, 0) + 1 for provider in Provider}

    def look(self) -> Report:
        """What every reader sees."""
        world, report = self._world, self.report
        for address in self._addresses[Provider.MICROSOFT]:
            state = world.microsoft
            person = state.person(address)
            folders = {folder.id: folder for folder in state.folders_of(person.id)}
            report.quarantined += sum("uarantine" in folder.name for folder in folders.values())
            for message in state.messages_of(person.id):
                if folders[message.folder_id].well_known != "deleteditems":
                    seen = (message.folder_id, message.is_read, message.flag)
                    self._note(address, message.subject, message.body, seen)
        for address in self._addresses[Provider.GOOGLE]:
            with world.google.lock:
                box = world.google.mailbox(address)
                report.quarantined += sum("uarantine" in label.name for label in box.labels.all())
                for stored in box.newest_first():
                    if "TRASH" not in stored.labels:
                        shown = world.google.message(address, stored.id)
                        text = (shown.html or "") + (shown.text or "")
                        self._note(address, shown.message.subject, text, sorted(stored.labels))
        self._count_faults()
        return report

    def _count_faults(self) -> None:
        rules: Any = self._world.faults.report()["rules"]
        self.report.faults = {}
        for rule in rules:
            for provider in Provider:
                if rule["path"] == _REQUESTS[provider] and rule["kind"] == FaultKind.LATENCY:
                    self.report.requests[provider] = rule["used"]
                elif rule["path"] in (_REQUESTS[provider], _NOTIFICATIONS[provider]):
                    kind = (provider, rule["kind"].value)
                    self.report.faults[kind] = self.report.faults.get(kind, 0) + rule["used"]

    def _note(self, address: str, subject: str, text: str, state: Any) -> None:
        match = _NUMBER.match(subject)
        self.report.found.append(Found(int(match[1]) if match else -1, address, text, state))


def _serve(
    pipe: multiprocessing.connection.Connection, folder: str, mailboxes: int, intake_url: str, seed: int
) -> None:
    with running_emulators(seed=seed) as emulators:
        settings = provider_settings(emulators, Path(folder), intake_url=intake_url)
        key = json.loads((settings.google_service_account_file or Path()).read_text())
        names = tuple(f"user{number}" for number in range(mailboxes))
        made = {provider: provision(emulators, provider, key["client_id"], names) for provider in Provider}
        # The quota of 6,000 units a minute would pace the run, not try it.
        emulators.world.google.behaviour.quotas = False
        people = _People(emulators, {provider: list(each.addresses) for provider, each in made.items()}, seed)
        pipe.send((settings, made))
        while True:
            order, argument = pipe.recv()
            if order == "deliver":
                for number in argument:
                    people.deliver(number)
            elif order == "storm":
                emulators.world.faults.set_rules(weather(argument))
            elif order == "expire":
                people.expire()
            elif order == "burst":
                pipe.send(_burst(emulators, *argument))
                continue
            elif order == "late":
                rule = FaultRule(FaultKind.LATENCY, r"^/(graph|google/gmail|google/upload)", delay=argument)
                emulators.world.faults.set_rules([rule] if argument else [])
            elif order == "look":
                pipe.send(people.look())
                continue
            else:
                return
            pipe.send(None)


def _burst(emulators: Emulators, provider: Provider, addresses: list[str], numbers: range) -> list[float]:
    """Deliver messages to mailboxes in turn; gives the time at which each was there, in seconds since the epoch."""
    times = []
    for number in numbers:
        address = addresses[number % len(addresses)]
        emulators.world.deliver(provider.value, address, mail(address, f"Message {number}", link(number), n=number))
        times.append(time.time())
    return times


class Providers:
    """The emulators' process, seen from outside."""

    def __init__(self, folder: Path, mailboxes: int, intake_url: str, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, str(folder), mailboxes, intake_url, seed)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        answer: tuple[Any, dict[Provider, Provisioned]] = self._pipe.recv()
        self.settings, self.made = answer

    def _ask(self, order: str, argument: object = None) -> Any:
        self._pipe.send((order, argument))
        return self._pipe.recv()

    def deliver(self, numbers: range) -> None:
        """Messages arrive."""
        self._ask("deliver", numbers)

    def burst(self, provider: Provider, addresses: list[str], numbers: range) -> list[float]:
        """Messages arrive in these mailboxes in turn; gives each one's time, in seconds since the epoch."""
        times: list[float] = self._ask("burst", (provider, addresses, numbers))
        return times

    def late(self, seconds: float) -> None:
        """Every call of a mail API takes so much longer."""
        self._ask("late", seconds)

    def storm(self, roughness: float) -> None:
        """Faults begin."""
        self._ask("storm", roughness)

    def expire(self) -> None:
        """A cursor expires at each provider."""
        self._ask("expire")

    def look(self) -> Report:
        """What the mailboxes hold."""
        report: Report = self._ask("look")
        return report

    def close(self) -> None:
        """End the process."""
        self._pipe.send(("end", None))
        self._process.join(10)
