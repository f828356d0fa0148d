"""Mail folders: which of them matter, the well-known ones, and our quarantine folder.

Sources: https://learn.microsoft.com/graph/api/resources/mailfolder (well-known names, ``isHidden``),
https://learn.microsoft.com/graph/api/user-list-mailfolders. Folder ids need no immutable form: they are
constant already (https://learn.microsoft.com/graph/outlook-immutable-id).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from connectors.base.errors import ConnectorError, Unavailable
from connectors.microsoft.client import GraphClient, Reply, gather_all
from connectors.microsoft.errors import graph_error

if TYPE_CHECKING:
    from kiota_abstractions.request_information import RequestInformation

INBOX = "inbox"
JUNK = "junkemail"
DELETED = "deleteditems"
DRAFTS = "drafts"
SENT = "sentitems"
OUTBOX = "outbox"
RECOVERABLE = "recoverableitemsdeletions"
"""Where a message goes when it is deleted from the deleted items: nobody sees it there, its id may go on to work."""
_WELL_KNOWN = (INBOX, JUNK, DELETED, DRAFTS, SENT, OUTBOX)
NEVER_WATCHED = (DRAFTS, SENT, OUTBOX)

QUARANTINE_NAME = "Postern Quarantine"
_Value = TypeVar("_Value")
_SEARCH_FOLDER = "#microsoft.graph.mailSearchFolder"
_MAX_FOLDERS = 2_000
_MAX_REMEMBERED_MAILBOXES = 20_000


@dataclass(frozen=True, slots=True)
class Folders:
    """Ids of a mailbox's well-known folders, by Graph's name for them; absent ones are left out."""

    ids: dict[str, str]

    def name_of(self, folder_id: str) -> str:
        """Graph's well-known name of a folder id, or empty."""
        return next((name for name, known in self.ids.items() if known == folder_id), "")

    def never_watched(self) -> frozenset[str]:
        """Ids of drafts, sent mail and outbox."""
        return frozenset(self.ids[name] for name in NEVER_WATCHED if name in self.ids)


class FolderBook:
    """Looks folders up, and remembers the well-known ones of each mailbox (they never change)."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client
        self._known: OrderedDict[str, Folders] = OrderedDict()
        self._quarantine: OrderedDict[str, str] = OrderedDict()
        self._recoverable: OrderedDict[str, str] = OrderedDict()

    async def well_known(self, mailbox: str) -> Folders:
        """The well-known folders of a mailbox.

        Args:
            mailbox: Its id.

        Raises:
            ConnectorError: The mailbox cannot be read.
        """
        found = self._known.get(mailbox)
        if found is None:
            pairs = await gather_all(*(self._find(mailbox, name) for name in _WELL_KNOWN))
            found = Folders({name: folder for name, folder in pairs if folder})
            _remember(self._known, mailbox, found)
        return found

    async def name_of(self, mailbox: str, folder_id: str) -> str:
        """Graph's well-known name of a folder, :data:`RECOVERABLE` among them, or empty.

        Raises:
            ConnectorError: The mailbox cannot be read.
        """
        known = (await self.well_known(mailbox)).name_of(folder_id)
        if known or not folder_id:
            return known
        hidden = self._recoverable.get(mailbox)
        if hidden is None:
            _, hidden = await self._find(mailbox, RECOVERABLE)
            _remember(self._recoverable, mailbox, hidden)
        return RECOVERABLE if folder_id == hidden else ""

    def recall(self, mailbox: str, ids: dict[str, str]) -> None:
        """Take over the well-known folders that were stored with a cursor: saves six requests after a restart."""
        if ids and mailbox not in self._known:
            _remember(self._known, mailbox, Folders(dict(ids)))

    async def _find(self, mailbox: str, name: str) -> tuple[str, str]:
        what = "looking up a mail folder"
        info = self._client.requests.folder(mailbox, name)
        reply = await self._client.exchange(info, mailbox=mailbox, read=True, what=what)
        if reply.fault is not None:
            if reply.status == 404 and reply.fault.has("ErrorItemNotFound", "ErrorFolderNotFound"):
                return name, ""  # this mailbox has no such folder
            raise graph_error(reply.fault, what, roles=await self._client.roles())
        return name, _folder_id(reply.data)

    async def watched(self, mailbox: str) -> dict[str, int]:
        """All folders that received mail may be in, Inbox first, with the number of items in each.

        Search folders are left out: what they show is in other folders, and they have no delta.

        Raises:
            ConnectorError: The mailbox cannot be read, or has more than 2,000 folders.
        """
        tree = await self._tree(mailbox)
        known = await self.well_known(mailbox)
        if known.ids.get(INBOX, "") not in map(_folder_id, tree):
            self._known.pop(mailbox, None)  # what was recalled is of another mailbox, or of before its move
            known = await self.well_known(mailbox)
        skipped = known.never_watched()
        found: dict[str, int] = {}
        for folder in tree:
            identity = _folder_id(folder)
            if not identity or identity in skipped or folder.get("@odata.type") == _SEARCH_FOLDER:
                continue
            count = folder.get("totalItemCount")
            found[identity] = count if isinstance(count, int) else -1
        inbox = known.ids.get(INBOX, "")
        return dict(sorted(found.items(), key=lambda entry: entry[0] != inbox))

    async def _tree(self, mailbox: str) -> list[dict[str, Any]]:
        what = "listing mail folders"
        found = await self._all_pages(mailbox, self._client.requests.folders(mailbox), what)
        parents = [folder for folder in found if folder.get("childFolderCount")]
        while parents:
            if len(found) > _MAX_FOLDERS:
                raise ConnectorError(
                    f"The mailbox has more than {_MAX_FOLDERS} mail folders; its mail was left as it is."
                )
            levels = await gather_all(
                *(
                    self._all_pages(mailbox, self._client.requests.child_folders(mailbox, _folder_id(p)), what)
                    for p in parents
                )
            )
            parents = []
            for children in levels:
                found.extend(children)
                parents.extend(child for child in children if child.get("childFolderCount"))
        return found

    async def _all_pages(self, mailbox: str, info: RequestInformation, what: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        while True:
            reply = await self._client.call(info, mailbox=mailbox, read=True, what=what)
            entries.extend(reply.values)
            link = reply.data.get("@odata.nextLink")
            if not isinstance(link, str) or len(entries) > _MAX_FOLDERS:
                return entries
            info = self._client.follow(link)

    async def quarantine(self, mailbox: str) -> str:
        """The id of our quarantine folder; it is created, hidden, where it does not exist.

        A hidden folder does not show in Outlook (``isHidden`` can be set at creation only).

        Raises:
            ConnectorError: It can neither be found nor created.
        """
        found = self._quarantine.get(mailbox) or await self._find_quarantine(mailbox)
        if not found:
            reply = await self._create_quarantine(mailbox)
            if reply.fault is None:
                found = _folder_id(reply.data)
            elif reply.status == 409 or reply.fault.has("ErrorFolderExists"):
                found = await self._find_quarantine(mailbox)  # somebody else was faster
            else:
                raise await self._client.refused(reply.fault, "creating the quarantine folder")
        if not found:
            raise Unavailable("The quarantine folder was created but cannot be found yet; tried again later.")
        _remember(self._quarantine, mailbox, found)
        return found

    def forget_quarantine(self, mailbox: str) -> None:
        """Look the folder up again next time: somebody deleted it."""
        self._quarantine.pop(mailbox, None)

    async def _find_quarantine(self, mailbox: str) -> str:
        what = "looking for the quarantine folder"
        request = self._client.requests.folders_named(mailbox, QUARANTINE_NAME)
        for folder in await self._all_pages(mailbox, request, what):
            if folder.get("displayName") == QUARANTINE_NAME:
                return _folder_id(folder)
        return ""

    async def _create_quarantine(self, mailbox: str) -> Reply:
        info = self._client.requests.create_hidden_folder(mailbox, QUARANTINE_NAME)
        return await self._client.exchange(info, mailbox=mailbox, read=False, what="creating the quarantine folder")


def _folder_id(folder: dict[str, Any]) -> str:
    identity = folder.get("id")
    return identity if isinstance(identity, str) else ""


def _remember(book: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    book[key] = value
    book.move_to_end(key)
    if len(book) > _MAX_REMEMBERED_MAILBOXES:
        book.popitem(last=False)
