"""Drive API, v3, as far as tracked attachments need it: files and who may open them.

https://developers.google.com/workspace/drive/api/reference/rest/v3 and
https://developers.google.com/workspace/drive/api/guides/manage-sharing. A file without access answers 404 to
the API and a refusal to a browser, as if a link had never worked.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.emulators.google.api import Call, Content, Method, Param, scopes
from connectors.emulators.google.errors import ApiError, forbidden, invalid
from connectors.emulators.google.files import DriveFile, Permission
from connectors.emulators.google.pages import page
from connectors.emulators.google.state import GoogleState

_ROLES = ("owner", "writer", "commenter", "reader")
_TYPES = ("user", "group", "domain", "anyone")
_LONGEST = 366 * 86_400
_SETTABLE = ("description", "properties", "appProperties", "copyRequiresWriterPermission", "writersCanShare")


def _caller(call: Call) -> str:
    return call.grant.subject or call.grant.service_account


def _file(call: Call, *roles: str) -> DriveFile:
    """The file asked for, where the caller has one of the roles on it (any, if none is named)."""
    file = call.state.files.get(call.path["fileId"])
    role = _role(call.state, file, _caller(call)) if file is not None else None
    if file is None or role is None:
        raise ApiError(404, f"File not found: {call.path['fileId']}.", "notFound")
    if roles and role not in roles:
        message = "The user does not have sufficient permissions for this file."
        raise forbidden(message, "insufficientFilePermissions")
    return file


def _role(state: GoogleState, file: DriveFile, address: str) -> str | None:
    """The strongest role that an address has on a file; an empty address is somebody not signed in."""
    found = {permission.role for permission in file.permissions.values() if _covers(state, permission, address)}
    return next((role for role in _ROLES if role in found), None)


def _covers(state: GoogleState, permission: Permission, address: str) -> bool:
    if permission.expires:
        ends = datetime.fromisoformat(permission.expires).timestamp()
        if ends <= state.clock.timestamp():
            return False
    if permission.type == "anyone":
        return True
    if not address:
        return False
    if permission.type == "domain":
        return address.lower().endswith("@" + permission.address.lower())
    if permission.type == "group":
        group = state.accounts.group(permission.address)
        return group is not None and address.lower() in state.accounts.people_in(group)
    return address.lower() == permission.address.lower()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _resource(call: Call, file: DriveFile) -> dict[str, Any]:
    own = file.owner.lower() == _caller(call).lower()
    base = call.state.base_url
    return {
        "kind": "drive#file",
        "id": file.id,
        "name": file.name,
        "mimeType": file.mime_type,
        **file.fields,
        "size": str(len(file.content)),
        "md5Checksum": hashlib.md5(file.content, usedforsecurity=False).hexdigest(),
        "sha256Checksum": hashlib.sha256(file.content).hexdigest(),
        "createdTime": _moment(file.created),
        "modifiedTime": _moment(file.modified),
        "trashed": file.trashed,
        "version": str(file.version),
        "ownedByMe": own,
        "shared": len(file.permissions) > 1,
        "permissionIds": list(file.permissions),
        "permissions": [_permission(permission) for permission in file.permissions.values()],
        "webViewLink": f"{base}/drive/file/d/{file.id}/view",
        "webContentLink": f"{base}/drive/uc?id={file.id}&export=download",
    }


def create(call: Call) -> dict[str, Any]:
    """``files.create``: with the content by upload, or empty."""
    now = call.state.clock.timestamp()
    owner = _caller(call)
    file = DriveFile(
        id=secrets.token_urlsafe(24).replace("-", "x"),
        owner=owner,
        name=str(call.body.get("name") or "Untitled"),
        mime_type=str(call.body.get("mimeType") or "application/octet-stream"),
        content=call.media or b"",
        created=now,
        modified=now,
        fields={name: call.body[name] for name in _SETTABLE if name in call.body},
    )
    own = Permission(str(secrets.randbelow(10**20)), "user", "owner", owner)
    file.permissions[own.id] = own
    call.state.files[file.id] = file
    return _resource(call, file)


def get(call: Call) -> dict[str, Any] | Content:
    """``files.get``: the description, or with ``alt=media`` the content."""
    file = _file(call)
    return Content(file.content, file.mime_type) if call.alt == "media" else _resource(call, file)


def update(call: Call) -> dict[str, Any]:
    """``files.update``: name, type, trash, or new content by upload."""
    file = _file(call, "owner", "writer")
    trashed = call.body.get("trashed", file.trashed)
    if not isinstance(trashed, bool):
        raise invalid("Invalid value at 'trashed'")
    file.trashed = trashed
    file.name = str(call.body.get("name") or file.name)
    file.mime_type = str(call.body.get("mimeType") or file.mime_type)
    file.fields.update({name: call.body[name] for name in _SETTABLE if name in call.body})
    if call.media is not None:
        file.content = call.media
    file.modified = call.state.clock.timestamp()
    file.version += 1
    return _resource(call, file)


def delete(call: Call) -> None:
    """``files.delete``: for good, past the trash; the owner only."""
    del call.state.files[_file(call, "owner").id]


# Permissions: https://developers.google.com/workspace/drive/api/reference/rest/v3/permissions


def _permission(permission: Permission) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": "drive#permission",
        "id": permission.id,
        "type": permission.type,
        "role": permission.role,
    }
    if permission.type == "domain":
        shown["domain"] = permission.address
    elif permission.address:
        shown["emailAddress"] = permission.address
    if permission.type in ("anyone", "domain"):
        shown["allowFileDiscovery"] = False
    if permission.expires:
        shown["expirationTime"] = permission.expires
    return shown


def create_permission(call: Call) -> dict[str, Any]:
    """``permissions.create``: share with a user, a group, a domain, or anyone who has the link."""
    file = _file(call, "owner", "writer")
    kind, role = call.body.get("type"), call.body.get("role")
    if kind not in _TYPES or role not in _ROLES[1:]:
        raise invalid("The permission type and role fields are required and have to be known.", "required")
    address = str(call.body.get("domain" if kind == "domain" else "emailAddress") or "")
    if (kind != "anyone") != bool(address):
        raise invalid("The specified emailAddress or domain does not fit the permission type.", "invalid")
    expires = _expiration(call, str(kind))
    known = "anyoneWithLink" if kind == "anyone" else str(secrets.randbelow(10**20))
    permission = Permission(known, str(kind), str(role), address, expires)
    file.permissions[permission.id] = permission
    return _permission(permission)


def _expiration(call: Call, kind: str) -> str:
    """``expirationTime``: for users and groups only, in the future, at most a year away."""
    text = str(call.body.get("expirationTime") or "")
    if not text:
        return ""
    if kind not in ("user", "group"):
        message = "Cannot set an expiration date on a permission of type 'anyone' or 'domain'."
        raise forbidden(message, "cannotSetExpirationOnAnyoneOrDomain")
    try:
        ends = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("Invalid value at 'expirationTime'") from None
    if ends.tzinfo is None:
        raise invalid("Invalid value at 'expirationTime'")
    if not 0 < ends.timestamp() - call.state.clock.timestamp() <= _LONGEST:
        message = "Expiration dates must be in the future and within a year."
        raise forbidden(message, "expirationDatesMustBeInTheFuture")
    return text


def list_permissions(call: Call) -> dict[str, Any]:
    """``permissions.list``."""
    file = _file(call, "owner", "writer")
    shown = [_permission(permission) for permission in file.permissions.values()]
    return {"kind": "drive#permissionList", "permissions": shown}


def delete_permission(call: Call) -> None:
    """``permissions.delete``: the link stops working at once; the owner's cannot be taken away."""
    file = _file(call, "owner", "writer")
    permission = file.permissions.get(call.path["permissionId"])
    if permission is None:
        raise ApiError(404, f"Permission not found: {call.path['permissionId']}.", "notFound")
    if permission.role == "owner":
        raise forbidden("The owner of a file cannot be removed.", "cannotRemoveOwner")
    del file.permissions[permission.id]


# What somebody with a link sees


def share_routes(state: GoogleState) -> list[Route]:
    """The addresses in ``webViewLink`` and ``webContentLink``: no sign-in, so only for shared files."""

    def shared(file_id: str) -> DriveFile | None:
        file = state.files.get(file_id)
        if file is None or file.trashed or _role(state, file, "") is None:
            return None
        return file

    async def view(request: Request) -> Response:
        with state.lock:
            file = shared(request.path_params["file_id"])
        if file is None:
            return _no_access()
        detail = f"{file.mime_type}, {len(file.content)} bytes"
        return page("message", file.name, product="Google Drive", text="Shared with you.", detail=detail)

    async def download(request: Request) -> Response:
        with state.lock:
            file = shared(request.query_params.get("id", ""))
        if file is None:
            return _no_access()
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(file.content, headers=headers, media_type="application/octet-stream")

    return [Route("/drive/file/d/{file_id}/view", view), Route("/drive/uc", download)]


def _no_access() -> Response:
    return page("message", "You need access", product="Google Drive", status=403, text="Ask for access.")


_FILES = "/drive/v3/files"
_ONE = _FILES + "/{fileId}"
_PERMISSIONS = _ONE + "/permissions"
_WRITE = scopes("drive", "drive.file")
_DATA = _WRITE | scopes("drive.appdata")
_READ = _WRITE | scopes(
    "drive.meet.readonly", "drive.metadata", "drive.metadata.readonly", "drive.photos.readonly", "drive.readonly"
)
_FLAG = Param("boolean", default="false")
_TEXT = Param()
_DRIVES = {"supportsAllDrives": _FLAG, "supportsTeamDrives": _FLAG}
_SHOWN = {"includeLabels": _TEXT, "includePermissionsForView": _TEXT}
_WRITING = {
    **_DRIVES,
    **_SHOWN,
    "enforceSingleParent": _FLAG,
    "keepRevisionForever": _FLAG,
    "ocrLanguage": _TEXT,
    "useContentAsIndexableText": _FLAG,
}
_SHARING = {**_DRIVES, "enforceExpansiveAccess": _FLAG, "useDomainAdminAccess": _FLAG}
_FILE_FIELDS = "kind,id,name,mimeType"
_FILE_BODY = frozenset({"name", "mimeType", *_SETTABLE})
_PERMISSION_BODY = frozenset({"type", "role", "emailAddress", "domain", "expirationTime"})
_PERMISSION_FIELDS = "kind,id,type,role"

METHODS = (
    Method(
        "drive.files.create",
        "POST",
        _FILES,
        _DATA,
        create,
        {**_WRITING, "ignoreDefaultVisibility": _FLAG},
        upload=True,
        request=_FILE_BODY,
        default_fields=_FILE_FIELDS,
    ),
    Method(
        "drive.files.get",
        "GET",
        _ONE,
        _READ | _DATA,
        get,
        {**_DRIVES, **_SHOWN, "acknowledgeAbuse": _FLAG},
        default_fields=_FILE_FIELDS,
    ),
    Method(
        "drive.files.update",
        "PATCH",
        _ONE,
        _DATA | scopes("drive.metadata", "drive.scripts"),
        update,
        {**_WRITING, "addParents": _TEXT, "removeParents": _TEXT},
        upload=True,
        request=_FILE_BODY | {"trashed"},
        default_fields=_FILE_FIELDS,
    ),
    Method("drive.files.delete", "DELETE", _ONE, _DATA, delete, {**_DRIVES, "enforceSingleParent": _FLAG}),
    Method(
        "drive.permissions.create",
        "POST",
        _PERMISSIONS,
        _WRITE,
        create_permission,
        {
            **_SHARING,
            "emailMessage": _TEXT,
            "enforceSingleParent": _FLAG,
            "moveToNewOwnersRoot": _FLAG,
            "sendNotificationEmail": Param("boolean"),
            "transferOwnership": _FLAG,
        },
        request=_PERMISSION_BODY,
        default_fields=_PERMISSION_FIELDS,
    ),
    Method(
        "drive.permissions.list",
        "GET",
        _PERMISSIONS,
        _READ,
        list_permissions,
        {
            **_DRIVES,
            "includePermissionsForView": _TEXT,
            "pageSize": Param("integer"),
            "pageToken": _TEXT,
            "useDomainAdminAccess": _FLAG,
        },
        default_fields=f"kind,permissions({_PERMISSION_FIELDS})",
    ),
    Method("drive.permissions.delete", "DELETE", _PERMISSIONS + "/{permissionId}", _WRITE, delete_permission, _SHARING),
)
