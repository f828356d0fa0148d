"""What the people and the administrator of an organisation do at its provider, whichever it is."""

from __future__ import annotations

from typing import Any

from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.google.config import SCOPE_USERS
from tests.integration.protection.world import Organisation, mail

READING = {Provider.MICROSOFT: r"/messages/{id}(\?|$)", Provider.GOOGLE: r"/messages/{id}(\?|$)"}
WRITING = {Provider.MICROSOFT: ("PATCH", r"/messages/"), Provider.GOOGLE: ("POST", r"/upload/.*/messages")}


class Hands:
    """Acts at the emulated provider behind Postern's back."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._world = organisation.emulators.world
        self._microsoft = organisation.provider is Provider.MICROSOFT

    def _person(self, address: str) -> str:
        return self._world.microsoft.person(address).id

    def delete(self, address: str, message_id: str) -> None:
        """Delete for good."""
        if self._microsoft:
            state = self._world.microsoft
            state.remove(state.message(self._person(address), message_id))
        else:
            with self._world.google.lock:
                self._world.google.mailbox(address).delete([message_id])

    def read_and_star(self, address: str, message_id: str) -> None:
        """Open and flag a message."""
        if self._microsoft:
            state = self._world.microsoft
            message = state.message(self._person(address), message_id)
            message.is_read = True
            message.flag = "flagged"
            state.changed(message)
        else:
            with self._world.google.lock:
                self._world.google.mailbox(address).modify([message_id], ("STARRED",), ("UNREAD",))

    def state_of(self, address: str) -> list[Any]:
        """Labels or folder, read state and flag of each message that is not in the bin."""
        if self._microsoft:
            state = self._world.microsoft
            trash = state.folder(self._person(address), "deleteditems").id
            return [
                (m.folder_id, m.is_read, m.flag)
                for m in state.messages_of(self._person(address))
                if m.folder_id != trash
            ]
        with self._world.google.lock:
            return [
                sorted(stored.labels)
                for stored in self._world.google.mailbox(address).newest_first()
                if "TRASH" not in stored.labels
            ]

    def expire_cursor(self, address: str) -> None:
        """Everything that was said about changes so far is forgotten."""
        if self._microsoft:
            self._world.microsoft.expire_delta_tokens(self._person(address))
        else:
            # The newest history id never expires, so something has to happen first.
            self.delete(address, self._organisation.deliver(address, mail(address, "Withdrawn")))
            self._world.google.expire_history(address)

    def _google_client(self) -> str:
        import json

        path = self._organisation.runtime.settings.google_service_account_file
        assert path is not None
        return str(json.loads(path.read_text())["client_id"])

    def revoke(self) -> None:
        """The administrator withdraws the grant."""
        if self._microsoft:
            tenant = next(iter(self._world.microsoft.tenants))
            self._world.microsoft.revoke(tenant, self._organisation.emulators.client_id)
        else:
            self._world.google.revoke_delegation("C0kasuga", self._google_client(), drop_tokens=True)

    def forbid_writing(self) -> None:
        """The permission to change mail goes, the rest stays."""
        self.revoke()
        if self._microsoft:
            self._grant_microsoft("Mail.ReadWrite", "User.Read.All")
        else:
            self._world.google.delegate("C0kasuga", self._google_client(), [SCOPE_USERS])

    def allow_writing(self) -> None:
        """The administrator grants all that is asked for."""
        if self._microsoft:
            self.revoke()
            self._grant_microsoft("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All", "User.Read.All")
        else:
            scopes = ["https://www.googleapis.com/auth/gmail.modify", SCOPE_USERS]
            self._world.google.delegate("C0kasuga", self._google_client(), scopes)

    def _grant_microsoft(self, *roles: str) -> None:
        tenant = next(iter(self._world.microsoft.tenants))
        self._world.microsoft.grant(tenant, self._organisation.emulators.client_id, roles)

    def fail_reading(self, kind: FaultKind, message_id: str, **more: Any) -> None:
        """Reading this message fails."""
        path = READING[self._organisation.provider].format(id=message_id)
        self._world.faults.add(FaultRule(kind, path, "GET", **more))

    def fail_writing(self, kind: FaultKind, **more: Any) -> None:
        """Writing fails."""
        method, path = WRITING[self._organisation.provider]
        self._world.faults.add(FaultRule(kind, path, method, **more))
