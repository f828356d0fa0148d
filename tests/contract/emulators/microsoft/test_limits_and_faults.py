from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from connectors.emulators.common.faults import FaultKind, FaultRule, Manner
from tests.contract.emulators.microsoft.conftest import Organisation


def test_a_fifth_request_at_once_for_one_mailbox_is_throttled(org: Organisation) -> None:
    given = org.deliver()
    org.emulators.world.faults.add(FaultRule(FaultKind.LATENCY, path="/messages/", delay=0.8))
    gate = threading.Barrier(6)

    def ask(_: int) -> httpx.Response:
        gate.wait()
        with httpx.Client(trust_env=False) as client:
            return client.get(f"{org.emulators.graph_url}{org.path(given)}", headers=org.headers())

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 429, 429]
    counts = org.client.get(f"{org.emulators.base_url}/control/counts").json()
    assert counts["highest_concurrency"] == 4
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "ApplicationThrottled"
    assert refused.headers["retry-after"] == "1"


def test_more_requests_than_the_window_allows_are_throttled_until_it_ends(org: Organisation) -> None:
    org.emulators.world.microsoft.switches.requests_per_window = 3
    path = f"/users/{org.ada.address}/messages"
    assert [org.call("GET", path).status_code for _ in range(4)] == [200, 200, 200, 429]
    by_id = org.call("GET", f"/users/{org.ada.id}/messages")
    assert by_id.status_code == 429
    assert 1 <= int(by_id.headers["retry-after"]) <= 601
    assert org.call("GET", f"/users/{org.ben.id}/messages").status_code == 200
    org.emulators.world.clock.advance(601)
    assert org.call("GET", path).status_code == 200


@pytest.mark.parametrize(("kind", "status"), [(FaultKind.THROTTLE, 429), (FaultKind.UNAVAILABLE, 503)])
def test_injected_refusals_carry_retry_after_and_have_no_effect(
    org: Organisation, kind: FaultKind, status: int
) -> None:
    given = org.deliver()
    org.emulators.world.faults.add(FaultRule(kind, method="PATCH", limit=1, retry_after=7))
    answer = org.call("PATCH", org.path(given), json={"isRead": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert org.call("GET", org.path(given)).json()["isRead"] is False
    assert org.call("PATCH", org.path(given), json={"isRead": True}).status_code == 200
    assert org.emulators.world.faults.counts == {kind.value: 1}


@pytest.mark.parametrize(("kind", "took_effect"), [(FaultKind.TIMEOUT_AFTER, True), (FaultKind.TIMEOUT_BEFORE, False)])
def test_a_broken_answer_says_nothing_about_whether_the_write_took_effect(
    org: Organisation, kind: FaultKind, took_effect: bool
) -> None:
    given = org.deliver()
    org.emulators.world.faults.add(FaultRule(kind, method="PATCH", limit=1))
    with pytest.raises(httpx.RemoteProtocolError):
        org.call("PATCH", org.path(given), json={"isRead": True})
    assert org.call("GET", org.path(given)).json()["isRead"] is took_effect


def test_a_timeout_can_be_a_504_or_a_long_silence(org: Organisation) -> None:
    given = org.deliver()
    faults = org.emulators.world.faults
    faults.add(FaultRule(FaultKind.TIMEOUT_AFTER, method="PATCH", limit=1, manner=Manner.GATEWAY_TIMEOUT))
    assert org.call("PATCH", org.path(given), json={"isRead": True}).status_code == 504
    faults.set_rules([FaultRule(FaultKind.TIMEOUT_BEFORE, limit=1, manner=Manner.HANG, delay=5)])
    with pytest.raises(httpx.ReadTimeout):
        org.call("GET", org.path(given), timeout=httpx.Timeout(60, read=0.2))


def test_rules_are_set_seeded_and_counted_over_http(org: Organisation) -> None:
    at = f"{org.emulators.base_url}/control/faults"
    rule = {"kind": "throttle", "path": "/graph/", "probability": 0.5}

    def outcome() -> list[int]:
        assert org.client.put(at, json={"rules": [rule], "seed": 42}).status_code == 200
        return [org.call("GET", f"/users/{org.ada.id}/messages").status_code for _ in range(12)]

    first = outcome()
    assert {200, 429} == set(first)
    assert outcome() == first
    report = org.client.get(at).json()
    assert report["counts"]["throttle"] == 2 * first.count(429)
    org.client.delete(at)
    assert org.call("GET", f"/users/{org.ada.id}/messages").status_code == 200


@pytest.mark.parametrize(
    "rule", [{"kind": "nothing"}, {"kind": "lose", "probability": 2}, {"kind": "lose", "colour": "red"}, {}]
)
def test_a_rule_that_is_not_understood_is_refused(org: Organisation, rule: dict[str, object]) -> None:
    answer = org.client.post(f"{org.emulators.base_url}/control/faults", json=rule)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_control_refuses_what_it_does_not_know(org: Organisation) -> None:
    control = f"{org.emulators.base_url}/control"
    assert org.client.post(f"{control}/deliver", json={"provider": "microsoft"}).status_code == 400
    unknown = {"provider": "microsoft", "to": "nobody@x.example", "mime_base64": "eA=="}
    assert org.client.post(f"{control}/deliver", json=unknown).status_code == 404
    assert org.client.patch(f"{control}/microsoft", json={"strict_updates": "yes"}).status_code == 400
    assert org.client.post(f"{control}/clock", json={"advance_seconds": -1}).status_code == 400


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x.y.z", "Basic eDp5"])
def test_without_a_valid_token_nothing_is_answered(org: Organisation, header: str) -> None:
    answer = org.client.get(f"{org.emulators.graph_url}/users", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")


def test_an_expired_token_is_refused(org: Organisation) -> None:
    world, client_id = org.emulators.world, org.emulators.client_id
    token = world.microsoft_service.tokens.app_token(org.tenant, world.microsoft.applications[client_id], [], -1)
    answer = org.client.get(f"{org.emulators.graph_url}/users", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


def test_the_directory_is_seen_only_with_its_roles_and_in_pages(org: Organisation) -> None:
    people = org.call("GET", "/users?$top=1").json()
    assert len(people["value"]) == 1
    rest = org.call("GET", people["@odata.nextLink"]).json()
    assert {people["value"][0]["id"], rest["value"][0]["id"]} == {org.ada.id, org.ben.id}
    assert org.call("GET", "/organization").json()["value"][0]["id"] == org.tenant.id
    group = org.emulators.world.microsoft.add_group(org.tenant, "Team", [org.ada])
    refused = org.call("GET", f"/groups/{group.id}/members")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "Authorization_RequestDenied")
    org.tenant.grants[org.emulators.client_id].roles.append("GroupMember.Read.All")
    members = org.call("GET", f"/groups/{group.id}/members?$select=id,mail").json()["value"]
    assert [(member["id"], member["mail"]) for member in members] == [(org.ada.id, org.ada.address)]


def test_a_conflict_can_come_without_if_match(org: Organisation) -> None:
    given = org.deliver()
    org.emulators.world.faults.add(FaultRule(FaultKind.CONFLICT, method="PATCH", limit=1))
    conflict = org.call("PATCH", org.path(given), json={"isRead": True})
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (412, "ErrorIrresolvableConflict")
    assert org.call("GET", org.path(given)).json()["isRead"] is False


def test_an_application_can_be_limited_to_some_mailboxes(org: Organisation) -> None:
    control = f"{org.emulators.base_url}/control/microsoft/scope"
    assert org.client.post(control, json={"tenant": org.tenant.id, "mailboxes": [org.ben.address]}).status_code == 200
    refused = org.call("GET", f"/users/{org.ada.id}/messages")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ErrorAccessDenied")
    assert "RAOP" in refused.json()["error"]["message"]
    assert org.call("GET", f"/users/{org.ben.id}/messages").status_code == 200
    org.client.post(control, json={"tenant": org.tenant.id, "mailboxes": None})
    assert org.call("GET", f"/users/{org.ada.id}/messages").status_code == 200


def test_a_person_without_a_mailbox_is_told_from_an_unknown_one(org: Organisation) -> None:
    org.ada.has_mailbox = False
    answer = org.call("GET", f"/users/{org.ada.id}/messages")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MailboxNotEnabledForRESTAPI")
    unknown = org.call("GET", "/users/nobody@nordwind.example/messages")
    assert unknown.json()["error"]["code"] == "ErrorInvalidUser"


def test_mail_to_another_address_arrives_although_that_address_names_nobody(org: Organisation) -> None:
    org.emulators.world.microsoft.add_alias(org.ada, "a.lovelace@nordwind.example")
    given = org.deliver("alias", to="a.lovelace@nordwind.example")
    assert org.call("GET", org.path(given)).status_code == 200
    assert org.call("GET", "/users/a.lovelace@nordwind.example").status_code == 404
    addresses = org.call("GET", f"/users/{org.ada.id}?$select=proxyAddresses").json()["proxyAddresses"]
    assert addresses == ["SMTP:ada@nordwind.example", "smtp:a.lovelace@nordwind.example"]


def test_the_websites_remember_which_addresses_were_opened(org: Organisation) -> None:
    host = {"Host": "s.kurz1.localhost:1"}
    answer = org.client.get(f"{org.emulators.base_url}/a7Kq2", headers=host)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://news.lumen-post.localhost:1/harbours")
    assert org.client.get(f"{org.emulators.base_url}/nothing", headers=host).status_code == 404
    assert org.client.get(f"{org.emulators.base_url}/sites/nobody/").status_code == 404
    visits = org.client.get(f"{org.emulators.base_url}/control/visits").json()["visits"]
    assert visits == ["s.kurz1/a7Kq2", "s.kurz1/nothing"]
