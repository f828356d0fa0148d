"""The Microsoft side of the contract suite."""

from __future__ import annotations

import contextlib
import html
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.base.http import HttpPolicy, SharedHttp
from connectors.base.types import BodyContent, Content, FetchedMessage, Mailbox, MessageRef, Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.microsoft.model import Message, Person
from connectors.emulators.microsoft.state import MicrosoftState
from connectors.emulators.testing import Emulators
from connectors.microsoft.config import ClientSecret, MicrosoftConfig
from connectors.microsoft.connector import MicrosoftConnector
from connectors.microsoft.folders import QUARANTINE_NAME
from connectors.microsoft.notifications import MicrosoftNotifications
from tests.contract.connectors.harness import QUICK, Call, Weather, quick_http

MARKER_KEY = bytes(range(32))
_KINDS = {
    Weather.THROTTLED: FaultKind.THROTTLE,
    Weather.UNAVAILABLE: FaultKind.UNAVAILABLE,
    Weather.TIMEOUT_BEFORE: FaultKind.TIMEOUT_BEFORE,
    Weather.TIMEOUT_AFTER: FaultKind.TIMEOUT_AFTER,
}
_CALLS: dict[Call, tuple[str | None, str]] = {
    Call.READ_MESSAGE: ("GET", r"/graph/v1\.0/users/[^/]+/messages/[^/]+$"),
    Call.WRITE_MESSAGE: ("PATCH", r"/graph/v1\.0/users/[^/]+/messages/[^/]+$"),
    Call.LOOK_FOR_CHANGES: ("GET", r"/graph/v1\.0/users/[^/]+/(messages|mailFolders/.*/delta(\(\))?)$"),
    Call.GET_TOKEN: ("POST", r"/entra/.*/token$"),
    Call.ANYTHING: (None, r"/graph/v1\.0/users/"),
}
_PLACES = {
    "inbox": "inbox",
    "junk": "junkemail",
    "sent": "sentitems",
    "drafts": "drafts",
    "trash": "deleteditems",
}


class MicrosoftHarness:
    """Implements :class:`tests.contract.connectors.harness.ProviderHarness`."""

    provider = Provider.MICROSOFT
    makes_copies = False

    def __init__(self, emulators: Emulators, number: int) -> None:
        self.emulators = emulators
        self.domain = f"nordwind{number}.example"
        self.tenant, people = emulators.microsoft_tenant("ada", "ben", "cleo", domain=self.domain)
        self.ada, self.ben, self.cleo = (_mailbox(person) for person in people)
        self._people = {person.id: person for person in people}
        self._https: list[SharedHttp] = []
        self.connector = self.new_connector()
        self.notifications = MicrosoftNotifications()

    @property
    def state(self) -> MicrosoftState:
        """The emulated Microsoft, for doing what users and administrators do."""
        return self.emulators.world.microsoft

    def config(self, **changes: Any) -> MicrosoftConfig:
        """Settings that lead to the emulator."""
        values: dict[str, Any] = {
            "client_id": self.emulators.client_id,
            "credential": ClientSecret(self.emulators.client_secret),
            "authority": self.emulators.authority,
            "graph_url": self.emulators.graph_url,
            **changes,
        }
        return MicrosoftConfig(**values)

    def new_connector(self, policy: HttpPolicy = QUICK, **changes: Any) -> MicrosoftConnector:
        """See the protocol; ``changes`` are of the configuration."""
        http = quick_http(policy)
        self._https.append(http)
        return MicrosoftConnector(self.config(**changes), self.tenant.id, marker_key=MARKER_KEY, http=http)

    def may_read_groups(self) -> None:
        """See the protocol."""
        self.state.grant(self.tenant.id, self.emulators.client_id, ["GroupMember.Read.All"])

    def add_group(self, name: str, people: Sequence[Mailbox], inner: Sequence[str] = ()) -> str:
        """See the protocol."""
        members = [self._people[mailbox.id] for mailbox in people]
        groups = [self.state.groups[group] for group in inner]
        return self.state.add_group(self.tenant, name, [*members, *groups], f"{name}@{self.domain}").id

    def remove_group(self, group: str) -> None:
        """See the protocol."""
        self.state.remove_group(self.state.groups[group])

    def message(self, ref: MessageRef) -> Message:
        """The stored message."""
        return self.state.message(ref.mailbox.id, ref.id)

    def folder(self, mailbox: Mailbox, name: str, parent: str = "msgfolderroot") -> str:
        """The id of a user's folder; it is made where it is missing."""
        for folder in self.state.folders_of(mailbox.id):
            if folder.name == name:
                return folder.id
        return self.state.add_folder(mailbox.id, name, parent).id

    def deliver(self, mailbox: Mailbox, mime: bytes, place: str = "inbox", **options: Any) -> MessageRef:
        """See the protocol; also ``message_class``."""
        folder = _PLACES.get(place) or self.folder(mailbox, "Projects")
        return MessageRef(mailbox, self.state.deliver(mailbox.address, mime, folder=folder, **options).id)

    def texts(self, mailbox: Mailbox) -> list[str]:
        """See the protocol."""
        trash = self.state.folder(mailbox.id, "deleteditems").id
        return [m.body for m in self.state.messages_of(mailbox.id) if m.folder_id != trash]

    def place_of(self, ref: MessageRef) -> str:
        """See the protocol."""
        try:
            folder = self.state.folder(ref.mailbox.id, self.message(ref).folder_id)
        except KeyError:
            return "gone"
        if folder.name == QUARANTINE_NAME:
            return "quarantine"
        named = {graph: place for place, graph in _PLACES.items()}
        return named.get(folder.well_known or "", "other")

    def set_read(self, ref: MessageRef, is_read: bool) -> None:
        """See the protocol."""
        message = self.message(ref)
        message.is_read = is_read
        self.state.changed(message)

    def is_read(self, ref: MessageRef) -> bool:
        """See the protocol."""
        return self.message(ref).is_read

    def edit(self, ref: MessageRef, body: str) -> None:
        """Somebody else changes the body."""
        message = self.message(ref)
        message.body = body
        self.state.changed(message)

    def delete(self, ref: MessageRef) -> None:
        """See the protocol."""
        self.state.remove(self.message(ref))

    def with_link(self, message: FetchedMessage, old: str, new: str) -> Content:
        """See the protocol."""
        content = message.content
        assert isinstance(content, BodyContent)
        replaced = content.content.replace(html.escape(old), html.escape(new)).replace(old, new)
        assert replaced != content.content
        return BodyContent(replaced, content.is_html)

    def make(self, weather: Weather, call: Call, times: int | None = 1, retry_after: float = 0.05) -> None:
        """See the protocol."""
        method, path = _CALLS[call]
        self.emulators.world.faults.add(FaultRule(_KINDS[weather], path, method, limit=times, retry_after=retry_after))

    def clear(self) -> None:
        """See the protocol."""
        self.emulators.world.faults.clear()

    def advance(self, seconds: float) -> None:
        """See the protocol."""
        self.emulators.world.clock.advance(seconds)

    def expire_cursors(self, mailbox: Mailbox) -> None:
        """See the protocol."""
        self.state.expire_delta_tokens(mailbox.id)

    def revoke(self) -> None:
        """See the protocol."""
        self.state.revoke(self.tenant.id, self.emulators.client_id)

    def grant_only(self, *roles: str) -> None:
        """The administrator grants these permissions and no others."""
        self.state.revoke(self.tenant.id, self.emulators.client_id)
        self.state.grant(self.tenant.id, self.emulators.client_id, roles)

    def expire_token(self, connector: MicrosoftConnector) -> None:
        """An hour passes for the token in use, which the connector takes for fresh."""
        application = self.state.applications[self.emulators.client_id]
        tokens = self.emulators.world.microsoft_service.tokens
        connector._client._token = tokens.app_token(self.tenant, application, application.roles, seconds=-60)

    def forbid_writing(self) -> None:
        """See the protocol."""
        self.grant_only("Mail.ReadWrite", "User.Read.All")

    def push_to(self, url: str) -> None:
        """Nothing: Graph sends to each subscription's own address."""

    async def aclose(self) -> None:
        """See the protocol."""
        for http in self._https:
            await http.aclose()


class MicrosoftCopiesHarness(MicrosoftHarness):
    """An organisation after 31 December 2026 without the advanced permission, whose administrator chose copies."""

    makes_copies = True

    def __init__(self, emulators: Emulators, number: int) -> None:
        super().__init__(emulators, number)
        self.grant_only("Mail.ReadWrite", "User.Read.All")

    def make(self, weather: Weather, call: Call, times: int | None = 1, retry_after: float = 0.05) -> None:
        """See the protocol: what writes is the creation of the copy."""
        if call is not Call.WRITE_MESSAGE:
            super().make(weather, call, times, retry_after)
            return
        path = r"/graph/v1\.0/users/[^/]+/mailFolders/[^/]+/messages$"
        self.emulators.world.faults.add(FaultRule(_KINDS[weather], path, "POST", limit=times, retry_after=retry_after))

    def forbid_writing(self) -> None:
        """See the protocol: nothing is left but the directory."""
        self.grant_only("User.Read.All")


def _mailbox(person: Person) -> Mailbox:
    return Mailbox(person.id, person.address, person.name)


@contextlib.contextmanager
def graph_that(graph_url: str, answer: Callable[[Request], Response | None]) -> Iterator[str]:
    """A Graph that answers some requests in its own way and passes the others on; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/v1.0"

    async def forward(request: Request) -> Response:
        own = answer(request)
        if own is not None:
            return own
        kept = ("authorization", "prefer", "if-match", "content-type")
        async with httpx.AsyncClient() as client:
            passed = await client.request(
                request.method,
                f"{graph_url}/{request.path_params['rest']}?{request.url.query}",
                headers={name: request.headers[name] for name in kept if name in request.headers},
                content=await request.body(),
            )
        body = passed.content.replace(graph_url.encode(), base.encode())
        return Response(body, passed.status_code, media_type="application/json")

    app = Starlette(routes=[Route("/v1.0/{rest:path}", forward, methods=["GET", "POST", "PATCH", "DELETE"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield base
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
