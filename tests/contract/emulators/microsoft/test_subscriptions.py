from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from connectors.emulators.common.faults import FaultKind, FaultRule
from tests.contract.emulators.microsoft.conftest import Organisation, Receiver


def wanted(org: Organisation, receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {
        "changeType": "created",
        "notificationUrl": receiver.url,
        "lifecycleNotificationUrl": f"{receiver.url}/lifecycle",
        "resource": f"/users/{org.ada.id}/messages",
        "expirationDateTime": (org.emulators.world.clock.now() + timedelta(days=2)).isoformat(),
        "clientState": "s3cret",
        **more,
    }


def subscribe(org: Organisation, receiver: Receiver, **more: Any) -> dict[str, Any]:
    answer = org.call("POST", "/subscriptions", json=wanted(org, receiver, **more))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_both_addresses_are_validated_and_a_notification_has_the_documented_form(
    org: Organisation, receiver: Receiver
) -> None:
    subscription = subscribe(org, receiver)
    assert len(receiver.validations) == 2
    assert subscription["clientState"] is None
    given = org.deliver()
    (notification,) = receiver.wait_for(1)
    assert notification["subscriptionId"] == subscription["id"]
    assert notification["clientState"] == "s3cret"
    assert notification["tenantId"] == org.tenant.id
    assert notification["changeType"] == "created"
    assert notification["resource"] == f"Users/{org.ada.id}/Messages/{given}"
    assert notification["resourceData"]["@odata.type"] == "#Microsoft.Graph.Message"
    assert notification["resourceData"]["id"] == given


def test_ids_are_ordinary_ones_where_immutable_were_not_asked_for_at_creation(
    org: Organisation, receiver: Receiver
) -> None:
    answer = org.call("POST", "/subscriptions", "return=minimal", json=wanted(org, receiver))
    assert answer.status_code == 201
    given = org.deliver()
    (notification,) = receiver.wait_for(1)
    assert notification["resourceData"]["id"] != given
    assert org.call("GET", f"/{notification['resource']}").json()["subject"] == "Hello"


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", "echo"),
        (202, "text/plain", "echo"),
        (200, "text/plain", "wrong"),
        (500, "text/plain", "echo"),
    ],
)
def test_an_address_that_does_not_echo_the_token_gets_no_subscription(
    org: Organisation, receiver: Receiver, answer: tuple[int, str, str]
) -> None:
    status, kind, text = answer
    receiver.answer = lambda token: (status, kind, (token or "") if text == "echo" else text)
    refused = org.call("POST", "/subscriptions", json=wanted(org, receiver))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ValidationError")
    assert org.emulators.world.microsoft.subscriptions == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"notificationUrl": "https://hooks.example/x"},
        {"changeType": "nothing"},
        {"clientState": "x" * 129},
        {"expirationDateTime": "2020-01-01T00:00:00Z"},
        {"expirationDateTime": "2999-01-01T00:00:00Z"},
        {"resource": "/me/contacts"},
    ],
)
def test_a_subscription_with_a_wrong_property_is_refused(
    org: Organisation, receiver: Receiver, wrong: dict[str, str]
) -> None:
    assert org.call("POST", "/subscriptions", json=wanted(org, receiver, **wrong)).status_code == 400
    assert receiver.validations == []


def test_a_time_under_45_minutes_is_raised_to_it(org: Organisation, receiver: Receiver) -> None:
    now = org.emulators.world.clock.now()
    subscription = subscribe(org, receiver, expirationDateTime=(now + timedelta(minutes=1)).isoformat())
    assert subscription["expirationDateTime"] >= (now + timedelta(minutes=44)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_updates_and_other_mailboxes_do_not_notify_a_created_subscription(
    org: Organisation, receiver: Receiver
) -> None:
    subscribe(org, receiver)
    org.deliver("other", to=org.ben.address)
    given = org.deliver("mine")
    org.call("PATCH", org.path(given), json={"isRead": True})
    org.call("POST", f"{org.path(given)}/move", json={"destinationId": "junkemail"})
    first, second = receiver.wait_for(2)
    # A move makes the message appear in its new folder, which is "created" again.
    assert {first["resourceData"]["id"], second["resourceData"]["id"]} == {given}
    assert org.emulators.world.microsoft_service.subscriptions.sent == {"created": 2}


def test_a_notification_that_is_not_accepted_is_sent_again(org: Organisation, receiver: Receiver) -> None:
    subscribe(org, receiver)
    answers = iter([(503, "text/plain", ""), (202, "text/plain", "")])
    receiver.answer = lambda _: next(answers)
    org.deliver()
    assert len(receiver.wait_for(1)) == 1


def test_what_cannot_be_delivered_is_told_as_missed(org: Organisation, receiver: Receiver) -> None:
    subscribe(org, receiver)
    org.emulators.world.faults.add(FaultRule(FaultKind.LOSE, limit=1, path=r"/hook$"))
    org.deliver("lost")
    (told,) = receiver.wait_for(1)
    assert told["lifecycleEvent"] == "missed"
    assert told["clientState"] == "s3cret"
    assert "resource" not in told


def test_a_doubled_notification_comes_twice(org: Organisation, receiver: Receiver) -> None:
    subscribe(org, receiver)
    org.emulators.world.faults.add(FaultRule(FaultKind.DUPLICATE, limit=1))
    org.deliver()
    first, second = receiver.wait_for(2)
    assert first == second


def test_reauthorization_pauses_notifications_until_it_is_answered(org: Organisation, receiver: Receiver) -> None:
    subscription = subscribe(org, receiver)
    service = org.emulators.world.microsoft_service.subscriptions
    assert service.lifecycle(subscription["id"], "reauthorizationRequired")
    assert receiver.wait_for(1)[0]["lifecycleEvent"] == "reauthorizationRequired"
    org.deliver("withheld")
    assert service.sent["withheld"] == 1
    assert org.call("POST", f"/subscriptions/{subscription['id']}/reauthorize").status_code == 204
    shown = org.deliver("shown")
    assert receiver.wait_for(2)[1]["resourceData"]["id"] == shown


def test_a_subscription_is_renewed_in_place_and_ends_when_it_is_not(org: Organisation, receiver: Receiver) -> None:
    subscription = subscribe(org, receiver)
    at = f"/subscriptions/{subscription['id']}"
    later = org.emulators.world.clock.now() + timedelta(days=6)
    renewed = org.call("PATCH", at, json={"expirationDateTime": later.isoformat()})
    assert renewed.status_code == 200
    assert renewed.json()["expirationDateTime"] == later.strftime("%Y-%m-%dT%H:%M:%SZ")
    org.emulators.world.clock.advance(6 * 86400 + 60)
    assert org.call("GET", at).status_code == 404
    org.deliver("late")
    assert org.emulators.world.microsoft_service.subscriptions.sent["created"] == 0


def test_a_warning_comes_before_a_subscription_expires(org: Organisation, receiver: Receiver) -> None:
    subscription = subscribe(org, receiver)
    org.emulators.world.clock.advance(2 * 86400 - 600)
    org.emulators.world.microsoft_service.subscriptions.tend()
    warning = receiver.wait_for(1)[0]
    assert (warning["subscriptionId"], warning["lifecycleEvent"]) == (subscription["id"], "reauthorizationRequired")


def test_a_removed_subscription_is_told_and_gone(org: Organisation, receiver: Receiver, client: httpx.Client) -> None:
    subscription = subscribe(org, receiver)
    answer = client.post(f"{org.emulators.base_url}/control/microsoft/lifecycle", json={"event": "subscriptionRemoved"})
    assert answer.json() == {"sent": 1}
    assert receiver.wait_for(1)[0]["lifecycleEvent"] == "subscriptionRemoved"
    assert org.call("GET", f"/subscriptions/{subscription['id']}").status_code == 404


def test_subscriptions_are_listed_for_their_tenant_only_and_deleted(org: Organisation, receiver: Receiver) -> None:
    subscription = subscribe(org, receiver)
    other, _ = org.emulators.microsoft_tenant("zoe", domain="other.example")
    headers = {"Authorization": f"Bearer {org.emulators.app_token(other)}"}
    at = f"{org.emulators.graph_url}/subscriptions"
    assert org.client.get(at, headers=headers).json()["value"] == []
    assert org.client.delete(f"{at}/{subscription['id']}", headers=headers).status_code == 404
    assert [each["id"] for each in org.call("GET", "/subscriptions").json()["value"]] == [subscription["id"]]
    assert org.call("DELETE", f"/subscriptions/{subscription['id']}").status_code == 204
    assert org.call("GET", "/subscriptions").json()["value"] == []


def test_drop_mode_sends_nothing(org: Organisation, receiver: Receiver, client: httpx.Client) -> None:
    subscribe(org, receiver)
    client.post(f"{org.emulators.base_url}/control/notifications", json={"enabled": False})
    org.deliver("dropped")
    client.post(f"{org.emulators.base_url}/control/notifications", json={"enabled": True})
    shown = org.deliver("shown")
    (notification,) = receiver.wait_for(1)
    assert notification["resourceData"]["id"] == shown
    assert org.emulators.world.notifier.outcomes["dropped"] == 1


def test_notifications_can_come_in_batches_that_mix_subscriptions(org: Organisation, receiver: Receiver) -> None:
    first = subscribe(org, receiver)
    second = subscribe(org, receiver, resource=f"/users/{org.ben.id}/mailFolders('inbox')/messages")
    answer = org.client.patch(f"{org.emulators.base_url}/control/microsoft", json={"batch_seconds": 60})
    assert answer.status_code == 200
    org.deliver("one")
    org.deliver("two", to=org.ben.address)
    org.emulators.world.deliver("microsoft", org.ben.address, b"Subject: junk\r\n\r\nx", place="junkemail")
    org.emulators.world.microsoft_service.subscriptions.send_waiting()
    notifications = receiver.wait_for(2)
    assert {each["subscriptionId"] for each in notifications} == {first["id"], second["id"]}
    assert receiver.requests == 1


def test_a_reordered_notification_is_late_and_not_lost(org: Organisation, receiver: Receiver) -> None:
    subscribe(org, receiver)
    org.emulators.world.faults.add(FaultRule(FaultKind.REORDER, delay=0.2))
    given = {org.deliver(f"Number {index}") for index in range(5)}
    assert {each["resourceData"]["id"] for each in receiver.wait_for(5)} == given


def test_a_loss_that_the_provider_does_not_notice_is_not_told(org: Organisation, receiver: Receiver) -> None:
    subscribe(org, receiver)
    org.emulators.world.faults.add(FaultRule(FaultKind.LOSE, limit=1, told=False))
    org.deliver("lost")
    shown = org.deliver("shown")
    assert receiver.wait_for(1)[0]["resourceData"]["id"] == shown
    assert org.emulators.world.microsoft_service.subscriptions.sent == {"created": 2}


def test_notifications_for_an_endpoint_that_was_slow_too_often_are_dropped_and_told(
    org: Organisation, receiver: Receiver
) -> None:
    subscribe(org, receiver)
    notifier = org.emulators.world.notifier
    org.client.post(f"{org.emulators.base_url}/control/notifications", json={"throttles_slow": True})
    for _ in range(notifier.slow.AFTER):
        notifier.slow.record(receiver.url, notifier.slow.slow_after + 0.1)
    org.deliver("dropped")
    assert receiver.wait_for(1)[0]["lifecycleEvent"] == "missed"
    assert notifier.outcomes["dropped_slow"] == 1
    org.emulators.world.clock.advance(601)
    org.deliver("shown")
    assert receiver.wait_for(2)[1]["changeType"] == "created"


def test_a_mailbox_has_at_most_a_thousand_subscriptions(org: Organisation, receiver: Receiver) -> None:
    subscribe(org, receiver)
    state = org.emulators.world.microsoft
    (one,) = state.subscriptions_of(org.ada.id)
    for index in range(999):
        state.put_subscription(replace(one, id=f"{index}"))
    refused = org.call("POST", "/subscriptions", json=wanted(org, receiver))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ErrorQuotaExceeded")
