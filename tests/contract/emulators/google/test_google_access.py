"""Tokens, domain-wide delegation, keyless signing, quotas and faults, through google-auth."""

from __future__ import annotations

import concurrent.futures
import json
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import google.auth.transport.requests
import httpx
import pytest
import requests
from google.auth import exceptions, iam
from google.oauth2 import service_account
from googleapiclient.errors import HttpError

from connectors.emulators.common.faults import FaultKind, FaultRule, Manner
from connectors.emulators.google.keys import SigningKey
from tests.contract.emulators.google.harness import (
    ADMIN,
    CUSTOMER,
    DIRECTORY,
    DOMAIN,
    FULL,
    IAM,
    MODIFY,
    PROJECT,
    USER,
    Workspace,
    b64,
    mail,
    refused,
)


class LocalRequest(google.auth.transport.Request):  # type: ignore[misc]  # google-auth has no types here
    """google-auth's transport, with the address of IAM (built into the library) led to the emulator."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.session = requests.Session()
        self.session.trust_env = False
        self._inner = google.auth.transport.requests.Request(self.session)

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: MutableMapping[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        local = url.replace("https://iamcredentials.googleapis.com", f"{self._base}/iam")
        return self._inner(local, method, body, headers, timeout or 20, **more)


def refresh_error(workspace: Workspace, credentials: Any) -> Mapping[str, str]:
    request = LocalRequest(workspace.base)
    with pytest.raises(exceptions.RefreshError) as caught:
        credentials.refresh(request)
    request.session.close()
    answer: Mapping[str, str] = caught.value.args[1]
    return answer


def token(workspace: Workspace, subject: str | None, *scopes: str) -> str:
    request = LocalRequest(workspace.base)
    credentials = workspace.credentials(subject, *scopes)
    credentials.refresh(request)
    request.session.close()
    return str(credentials.token)


def profile(workspace: Workspace, bearer: str, user: str = "me") -> httpx.Response:
    return httpx.get(
        f"{workspace.base}/gmail/v1/users/{user}/profile",
        headers={"Authorization": f"Bearer {bearer}"},
        trust_env=False,
    )


def test_a_token_lives_an_hour(workspace: Workspace) -> None:
    bearer = token(workspace, USER, MODIFY)
    assert profile(workspace, bearer).json()["emailAddress"] == USER
    workspace.state.clock.advance(3_600)
    late = profile(workspace, bearer)
    assert late.status_code == 401
    assert late.json()["error"]["errors"][0]["reason"] == "authError"


def test_one_scope_that_is_not_listed_fails_the_whole_request(workspace: Workspace) -> None:
    credentials = workspace.credentials(USER, MODIFY, "https://www.googleapis.com/auth/drive")
    assert refresh_error(workspace, credentials)["error"] == "unauthorized_client"


def test_a_revoked_delegation_refuses_new_tokens_and_may_leave_old_ones_alive(workspace: Workspace) -> None:
    bearer = token(workspace, USER, MODIFY)
    workspace.state.revoke_delegation(CUSTOMER, workspace.key["client_id"])
    assert refresh_error(workspace, workspace.credentials(USER, MODIFY))["error"] == "unauthorized_client"
    assert profile(workspace, bearer).status_code == 200
    workspace.state.revoke_delegation(CUSTOMER, workspace.key["client_id"], drop_tokens=True)
    assert profile(workspace, bearer).status_code == 401


def test_a_delegation_may_take_a_while_to_take_effect(workspace: Workspace) -> None:
    workspace.state.behaviour.delegation_delay = 3_600
    workspace.state.delegate(CUSTOMER, workspace.key["client_id"], [MODIFY])
    assert refresh_error(workspace, workspace.credentials(USER, MODIFY))["error"] == "unauthorized_client"
    workspace.state.clock.advance(3_601)
    assert token(workspace, USER, MODIFY)


def test_a_user_that_is_gone_is_an_invalid_grant(workspace: Workspace) -> None:
    workspace.state.delete_user(USER)
    assert refresh_error(workspace, workspace.credentials(USER, MODIFY))["error"] == "invalid_grant"
    stranger = workspace.credentials("someone@elsewhere.example", MODIFY)
    assert refresh_error(workspace, stranger)["error"] == "invalid_grant"


def test_an_assertion_signed_by_another_key_is_an_invalid_grant(workspace: Workspace) -> None:
    forged = {**workspace.key, "private_key": SigningKey.generate().pem}
    credentials = service_account.Credentials.from_service_account_info(forged, scopes=[MODIFY], subject=USER)
    assert refresh_error(workspace, credentials)["error_description"] == "Invalid JWT Signature."


def test_a_mailbox_that_cannot_be_used_says_why(workspace: Workspace) -> None:
    assert profile(workspace, token(workspace, None, MODIFY)).json()["error"]["status"] == "FAILED_PRECONDITION"
    unlicensed = profile(workspace, token(workspace, f"no.mail@{DOMAIN}", MODIFY)).json()["error"]
    assert (unlicensed["code"], unlicensed["message"]) == (400, "Mail service not enabled")
    suspended = profile(workspace, token(workspace, f"old.account@{DOMAIN}", MODIFY)).json()["error"]
    assert suspended["code"] == 403
    other = profile(workspace, token(workspace, USER, MODIFY), f"yui.abe@{DOMAIN}")
    assert other.status_code == 403
    assert profile(workspace, token(workspace, f"k.mori@{DOMAIN}", MODIFY), USER).status_code == 200


def test_a_metadata_token_sees_no_body_and_cannot_search(workspace: Workspace) -> None:
    message_id = workspace.state.deliver(USER, mail())
    gmail = workspace.gmail(USER, "https://www.googleapis.com/auth/gmail.metadata")
    assert refused(gmail.messages().get(userId="me", id=message_id, format="raw"))[0] == 403
    assert refused(gmail.messages().list(userId="me", q="is:unread"))[0] == 403
    assert gmail.messages().get(userId="me", id=message_id, format="metadata").execute()["payload"]["headers"]


def test_keyless_delegation_signs_through_iam_and_gets_a_users_token(workspace: Workspace) -> None:
    runner = workspace.state.create_service_account(f"runner@{PROJECT}.iam.gserviceaccount.com")
    source = service_account.Credentials.from_service_account_info(runner, scopes=[IAM])
    request = LocalRequest(workspace.base)
    signer = iam.Signer(request, source, workspace.key["client_email"])
    credentials = service_account.Credentials(
        signer, workspace.key["client_email"], f"{workspace.base}/token", scopes=[MODIFY], subject=USER
    )
    with pytest.raises(exceptions.TransportError, match="denied"):
        credentials.refresh(request)
    account = workspace.state.accounts.service_accounts[workspace.key["client_email"]]
    account.token_creators.add(runner["client_email"])
    credentials.refresh(request)
    request.session.close()
    assert profile(workspace, credentials.token).json()["emailAddress"] == USER


def test_only_an_administrator_of_the_customer_reads_the_directory(workspace: Workspace) -> None:
    workspace.state.create_domain("other.example", "C0other")
    api = workspace.directory()
    assert refused(workspace.directory(USER).users().list(customer="my_customer")) == (403, "forbidden")
    assert refused(api.users().list(customer="C0other")) == (403, "forbidden")
    assert refused(api.users().list(domain="other.example")) == (404, "notFound")
    assert refused(api.users().list()) == (400, "badRequest")
    assert refused(api.users().get(userKey=f"nobody@{DOMAIN}")) == (404, "notFound")


def test_directory_pages_hold_every_user_once_with_the_fields_protection_needs(workspace: Workspace) -> None:
    users: list[dict[str, Any]] = []
    page = None
    while True:
        answer = (
            workspace.directory().users().list(customer="my_customer", maxResults=2, pageToken=page, orderBy="email")
        ).execute()
        users += answer["users"]
        page = answer.get("nextPageToken")
        if page is None:
            break
    assert [user["primaryEmail"] for user in users] == [
        ADMIN,
        USER,
        f"no.mail@{DOMAIN}",
        f"old.account@{DOMAIN}",
        f"yui.abe@{DOMAIN}",
    ]
    by_address = {user["primaryEmail"]: user for user in users}
    assert by_address[ADMIN]["isAdmin"] is True
    assert by_address[USER]["aliases"] == [f"k.mori@{DOMAIN}"]
    assert by_address[f"old.account@{DOMAIN}"]["suspended"] is True
    assert by_address[f"no.mail@{DOMAIN}"]["isMailboxSetup"] is False
    active = workspace.directory().users().list(domain=DOMAIN, query="isSuspended=false isAdmin=true").execute()
    assert [user["primaryEmail"] for user in active["users"]] == [ADMIN]


def test_members_of_a_group_within_a_group_are_derived(workspace: Workspace) -> None:
    state, outer, inner = workspace.state, f"all@{DOMAIN}", f"finance@{DOMAIN}"
    state.create_group(inner, "Finance", [USER])
    state.create_group(outer, "All", {inner: "MEMBER", ADMIN: "OWNER"})
    members = workspace.directory().members()
    direct = members.list(groupKey=outer).execute()["members"]
    assert [(m["email"], m["type"]) for m in direct] == [(inner, "GROUP"), (ADMIN, "USER")]
    derived = members.list(groupKey=outer, includeDerivedMembership=True).execute()["members"]
    assert USER in {m["email"] for m in derived}
    assert members.hasMember(groupKey=outer, memberKey=USER).execute() == {"isMember": True}


@pytest.mark.parametrize("status", [403, 429])
def test_units_above_the_limit_are_refused_until_the_minute_is_over(workspace: Workspace, status: int) -> None:
    workspace.state.behaviour.units_per_user_minute = 45
    workspace.state.behaviour.quota_status = status
    message_id = workspace.state.deliver(USER, mail())
    gmail = workspace.gmail()
    request = gmail.messages().get(userId="me", id=message_id)
    request.execute()
    request.execute()
    assert refused(request) == (status, "userRateLimitExceeded")
    assert gmail.messages().list(userId="me").execute()["resultSizeEstimate"] == 1
    workspace.state.clock.advance(61)
    assert request.execute()["id"] == message_id
    workspace.state.behaviour.quotas = False
    for _ in range(3):
        request.execute()


def test_too_many_calls_at_once_for_a_user_are_refused(workspace: Workspace) -> None:
    workspace.state.behaviour.concurrent_requests = 2
    bearer = token(workspace, USER, MODIFY)
    workspace.state.deliver(USER, mail())
    user_id = workspace.state.user(USER).id
    with workspace.state.quota.call(user_id, workspace.state.behaviour):
        assert profile(workspace, bearer).status_code == 200
        with workspace.state.quota.call(user_id, workspace.state.behaviour):
            error = profile(workspace, bearer).json()["error"]
            assert error["code"] == 429
            assert "concurrent" in error["message"]
    assert profile(workspace, bearer).status_code == 200


def test_a_slow_api_counts_its_calls_as_under_way(workspace: Workspace) -> None:
    workspace.state.behaviour.concurrent_requests = 1
    bearer = token(workspace, USER, MODIFY)
    workspace.state.behaviour.latency = 0.5
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: profile(workspace, bearer).status_code, range(4)))
    assert 200 in answers
    assert 429 in answers


def test_injected_faults_answer_in_googles_shape_and_may_hide_a_write_that_took_effect(
    workspace: Workspace,
) -> None:
    gmail = workspace.gmail()
    gmail.getProfile(userId="me").execute()
    insert = gmail.messages().insert(userId="me", body={"raw": b64(mail()), "labelIds": ["INBOX"]})
    faults = workspace.state.faults
    faults.set_rules([FaultRule(FaultKind.THROTTLE, path="/messages", limit=1)])
    assert refused(insert) == (429, "rateLimitExceeded")
    assert workspace.state.messages(USER) == []
    manner = Manner.GATEWAY_TIMEOUT
    faults.set_rules([FaultRule(FaultKind.TIMEOUT_AFTER, path="/messages", limit=1, manner=manner)])
    with pytest.raises(HttpError) as caught:
        insert.execute()
    assert caught.value.status_code == 504
    assert len(workspace.state.messages(USER)) == 1


def test_a_saved_state_goes_on_where_it_was(workspace: Workspace) -> None:
    state = workspace.state
    kept = state.deliver(USER, mail())
    gmail = workspace.gmail()
    label = gmail.labels().create(userId="me", body={"name": "Held"}).execute()["id"]
    gmail.messages().modify(userId="me", id=kept, body={"addLabelIds": [label]}).execute()
    before = gmail.getProfile(userId="me").execute()
    bearer = token(workspace, USER, MODIFY)
    saved = json.loads(json.dumps(state.save()))
    state.deliver(USER, mail(message_id="<after@x.example>"))
    state.load(saved)
    assert profile(workspace, bearer).json() == before
    shown = gmail.messages().get(userId="me", id=kept, format="raw").execute()
    assert label in shown["labelIds"]
    assert token(workspace, ADMIN, DIRECTORY)
    assert json.loads(json.dumps(state.save())) == {**saved, "tokens": state.save()["tokens"]}


def test_the_viewer_shows_places_and_marks_read(workspace: Workspace) -> None:
    state = workspace.state
    message_id = state.deliver(USER, mail())
    gmail = workspace.gmail(USER, FULL)
    assert {box.address: box.unread for box in state.mailboxes()}[USER] == 1
    state.mark_read(USER, message_id)
    line = state.messages(USER)[0]
    assert (line.place, line.is_read, line.sender) == ("Inbox", True, "Aiko Tanaka")
    detail = state.message(USER, message_id)
    assert detail.raw == mail()
    assert detail.text is not None
    assert re.search(r"https://intranet\.sender\.example/q3", detail.text)
    gmail.messages().trash(userId="me", id=message_id).execute()
    assert state.messages(USER)[0].place == "Trash"
    with pytest.raises(KeyError):
        state.message(USER, "0" * 16)
    assert state.title
