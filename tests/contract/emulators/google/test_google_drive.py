"""Drive files and their sharing, as tracked attachments use them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
from googleapiclient.http import MediaInMemoryUpload

from tests.contract.emulators.google.harness import ADMIN, DOMAIN, USER, Workspace, refused

CONTENT = b"%PDF-1.7\r\n\r\nplan\n"


def made(workspace: Workspace) -> dict[str, Any]:
    media = MediaInMemoryUpload(CONTENT, mimetype="application/pdf")
    body = {"name": "plan <1>.pdf", "mimeType": "application/pdf"}
    request = workspace.drive().files().create(body=body, media_body=media, fields="id,webViewLink,webContentLink,size")
    answer: dict[str, Any] = workspace.upload(request)
    return answer


def later(workspace: Workspace, days: float) -> str:
    return (workspace.state.clock.now() + timedelta(days=days)).isoformat()


def opened(link: str) -> int:
    return httpx.get(link, trust_env=False).status_code


def test_a_file_is_kept_byte_for_byte_and_described_with_few_fields_unless_asked(workspace: Workspace) -> None:
    file = made(workspace)
    assert file["size"] == str(len(CONTENT))
    files = workspace.drive().files()
    assert files.get_media(fileId=file["id"]).execute() == CONTENT
    shown = files.get(fileId=file["id"]).execute()
    assert set(shown) == {"kind", "id", "name", "mimeType"}
    saved = json.loads(json.dumps(workspace.state.save()))
    files.delete(fileId=file["id"]).execute()
    workspace.state.load(saved)
    assert files.get_media(fileId=file["id"]).execute() == CONTENT


def test_a_link_works_while_it_is_shared_and_not_after(workspace: Workspace) -> None:
    file, permissions = made(workspace), workspace.drive().permissions()
    assert (opened(file["webViewLink"]), opened(file["webContentLink"])) == (403, 403)
    shared = permissions.create(fileId=file["id"], body={"type": "anyone", "role": "reader"}).execute()
    page = httpx.get(file["webViewLink"], trust_env=False)
    assert page.status_code == 200
    assert "plan &lt;1&gt;.pdf" in page.text
    assert httpx.get(file["webContentLink"], trust_env=False).content == CONTENT
    permissions.delete(fileId=file["id"], permissionId=shared["id"]).execute()
    assert (opened(file["webViewLink"]), opened(file["webContentLink"])) == (403, 403)


def test_a_share_ends_when_it_expires_and_a_trashed_file_is_not_shown(workspace: Workspace) -> None:
    file, api = made(workspace), workspace.drive()
    api.permissions().create(fileId=file["id"], body={"type": "anyone", "role": "reader"}).execute()
    api.files().update(fileId=file["id"], body={"trashed": True}).execute()
    assert opened(file["webViewLink"]) == 403
    api.files().update(fileId=file["id"], body={"trashed": False}).execute()
    assert opened(file["webViewLink"]) == 200
    api.permissions().delete(fileId=file["id"], permissionId="anyoneWithLink").execute()
    body = {"type": "user", "role": "reader", "emailAddress": USER, "expirationTime": later(workspace, 1)}
    api.permissions().create(fileId=file["id"], body=body).execute()
    assert workspace.drive(USER).files().get(fileId=file["id"]).execute()["id"] == file["id"]
    workspace.state.clock.advance(2 * 86_400)
    assert refused(workspace.drive(USER).files().get(fileId=file["id"])) == (404, "notFound")


def test_others_see_a_file_only_by_a_permission_and_readers_change_nothing(workspace: Workspace) -> None:
    file, other = made(workspace), workspace.drive(USER)
    assert refused(other.files().get(fileId=file["id"])) == (404, "notFound")
    workspace.state.create_group(f"all@{DOMAIN}", "All", [USER])
    body = {"type": "group", "role": "reader", "emailAddress": f"all@{DOMAIN}"}
    workspace.drive().permissions().create(fileId=file["id"], body=body).execute()
    assert other.files().get(fileId=file["id"]).execute()["id"] == file["id"]
    assert refused(other.files().update(fileId=file["id"], body={"name": "x"}))[0] == 403
    assert refused(other.permissions().list(fileId=file["id"]))[0] == 403
    listed = workspace.drive().permissions().list(fileId=file["id"], fields="*").execute()["permissions"]
    assert [p["role"] for p in listed] == ["owner", "reader"]
    assert listed[0]["emailAddress"] == ADMIN
    owner = workspace.drive().permissions().delete(fileId=file["id"], permissionId=listed[0]["id"])
    assert refused(owner) == (403, "cannotRemoveOwner")


def test_a_permission_that_makes_no_sense_is_refused(workspace: Workspace) -> None:
    file, permissions = made(workspace), workspace.drive().permissions()
    for body in (
        {"type": "anyone"},
        {"type": "user", "role": "reader"},
        {"type": "robot", "role": "reader"},
        {"type": "user", "role": "reader", "emailAddress": USER, "expirationTime": "soon"},
        {"type": "user", "role": "reader", "emailAddress": USER, "expirationTime": "2040-01-01T00:00:00"},
    ):
        assert refused(permissions.create(fileId=file["id"], body=body))[0] == 400
    for kind, days in (("anyone", 1.0), ("user", -1.0), ("user", 400.0)):
        body = {"type": kind, "role": "reader", "expirationTime": later(workspace, days)}
        if kind == "user":
            body["emailAddress"] = USER
        assert refused(permissions.create(fileId=file["id"], body=body))[0] == 403
    assert opened(file["webViewLink"]) == 403
