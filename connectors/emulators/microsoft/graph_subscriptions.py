"""Change notification subscriptions and what they send.

Documents, all under https://learn.microsoft.com/graph/: "Create subscription" (api/subscription-post-subscriptions),
"Update subscription", "subscription: reauthorize", "Receive change notifications through webhooks"
(change-notifications-delivery-webhooks: validation handshake, payload, retries), "Reduce missing subscriptions and
change notifications" (change-notifications-lifecycle-events), "Subscription lifetime"
(change-notifications-overview#subscription-lifetime), "Obtain immutable identifiers" (outlook-immutable-id).
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
from starlette.responses import Response

from connectors.emulators.common.notify import Delivery, Notifier, is_loopback
from connectors.emulators.microsoft import ids, render
from connectors.emulators.microsoft.graph import READ_MAIL, Call, Graph
from connectors.emulators.microsoft.graph_errors import GraphError, access_denied, bad_request
from connectors.emulators.microsoft.model import Message, Subscription
from connectors.emulators.microsoft.state import MailEvent, MicrosoftState

LONGEST = timedelta(minutes=10_080)
"""Outlook message without resource data: under seven days."""
SHORTEST = timedelta(minutes=45)
"""A shorter time is raised to this."""
PER_MAILBOX = 1000
WARN_BEFORE = timedelta(minutes=15)
"""How long before expiry ``reauthorizationRequired`` is sent."""
HANDSHAKE_SECONDS = 10.0

_RESOURCE = re.compile(
    r"^/?users[/(]'?(?P<user>[^/')]+)'?\)?(/mailfolders[/(]'?(?P<folder>[^/')]+)'?\)?)?/messages/?$", re.IGNORECASE
)


class Subscriptions:
    """Routes for subscriptions, and the sender of their notifications."""

    def __init__(self, state: MicrosoftState, notifier: Notifier) -> None:
        self._state = state
        self._notifier = notifier
        self._waiting: dict[str, list[tuple[render.Json, str | None]]] = {}
        self.sent: Counter[str] = Counter()
        state.listeners.append(self._on_event)

    def add_routes(self, graph: Graph) -> None:
        """All subscription routes."""
        graph.route("POST", "/subscriptions", self._create)
        graph.route("GET", "/subscriptions", self._list)
        graph.route("GET", "/subscriptions/{subscription}", self._get)
        graph.route("PATCH", "/subscriptions/{subscription}", self._renew)
        graph.route("DELETE", "/subscriptions/{subscription}", self._delete)
        graph.route("POST", "/subscriptions/{subscription}/reauthorize", self._reauthorize)

    # --- routes ----------------------------------------------------------------------------------------

    async def _create(self, call: Call) -> Response:
        """Check the request, shake hands with both addresses, then answer 201."""
        body = await call.json()
        subscription = self._read(call, body)
        await self._shake_hands(subscription.notification_url, "notificationUrl")
        if subscription.lifecycle_url is not None:
            await self._shake_hands(subscription.lifecycle_url, "lifecycleNotificationUrl")
        self._state.put_subscription(subscription)
        return call.answer(self._render(call, subscription), 201)

    def _read(self, call: Call, body: render.Json) -> Subscription:
        resource = str(body.get("resource") or "")
        found = _RESOURCE.match(resource)
        if found is None:
            raise bad_request(f"Resource '{resource}' is not supported here.", "ExtensionError")
        try:
            person = self._state.person(found["user"], call.tenant_id)
            if not call.may(*READ_MAIL, "Mail.ReadBasic.All", person=person):
                raise access_denied()
            call.check_policy(person)
            folder = self._state.folder(person.id, found["folder"]) if found["folder"] else None
        except KeyError:
            raise GraphError(404, "ResourceNotFound", "The specified object was not found.") from None
        change_types = [part.strip().lower() for part in str(body.get("changeType") or "").split(",") if part.strip()]
        if not change_types or not set(change_types) <= {"created", "updated", "deleted"}:
            raise bad_request("Invalid 'changeType' attribute: created, updated, deleted.", "InvalidRequest")
        url, lifecycle = body.get("notificationUrl"), body.get("lifecycleNotificationUrl")
        for address in (url, lifecycle):
            if address is not None and not is_loopback(str(address)):
                raise bad_request(
                    f"'{address}' does not lead to this machine; the emulator calls nothing else.", "InvalidRequest"
                )
        if not url:
            raise bad_request("The property notificationUrl is required.", "InvalidRequest")
        client_state = body.get("clientState")
        if client_state is not None and len(str(client_state)) > 128:
            raise bad_request("clientState cannot be longer than 128 characters.", "InvalidRequest")
        if body.get("includeResourceData") is True:
            raise bad_request("The emulator sends no resource data.", "InvalidRequest")
        if len(self._state.subscriptions_of(person.id)) >= PER_MAILBOX:
            raise GraphError(403, "ErrorQuotaExceeded", "Too many subscriptions for this mailbox.")
        return Subscription(
            id=ids.new_guid(self._state.random),
            tenant_id=call.tenant_id,
            client_id=call.client_id,
            user_id=person.id,
            folder_id=folder.id if folder else None,
            resource=resource,
            change_types=change_types,
            notification_url=str(url),
            lifecycle_url=str(lifecycle) if lifecycle else None,
            client_state=str(client_state) if client_state is not None else None,
            expires_at=self._expiry(body),
            immutable_ids=call.prefer.immutable_ids,
        )

    def _expiry(self, body: render.Json) -> datetime:
        try:
            wanted = datetime.fromisoformat(str(body.get("expirationDateTime")))
        except ValueError:
            raise bad_request("expirationDateTime is missing or not a date.", "InvalidRequest") from None
        wanted = wanted.replace(tzinfo=UTC) if wanted.tzinfo is None else wanted
        now = self._state.clock.now()
        if wanted <= now:
            raise bad_request("expirationDateTime lies in the past.", "InvalidRequest")
        # A minute of grace for the clocks of clients that ask for the longest time.
        if wanted > now + LONGEST + timedelta(minutes=1):
            raise bad_request("Subscription expiration can only be 10080 minutes in the future.", "ExtensionError")
        return max(wanted, now + SHORTEST)

    async def _shake_hands(self, url: str, name: str) -> None:
        """Validation: 200, text/plain, the URL-decoded token, within ten seconds."""
        token = f"Validation: Testing client application reachability for subscription {secrets.token_urlsafe(24)}"
        separator = "&" if "?" in url else "?"
        address = f"{url}{separator}validationToken={quote(token, safe='')}"
        try:
            answer = await self._notifier.post(
                address, b"", {"content-type": "text/plain; charset=utf-8"}, HANDSHAKE_SECONDS
            )
        except (httpx.HTTPError, ValueError) as error:
            raise _not_validated(name, f"no answer ({type(error).__name__})") from error
        if answer.status_code != 200:
            raise _not_validated(name, f"HTTP status {answer.status_code}")
        if not answer.headers.get("content-type", "").lower().startswith("text/plain"):
            raise _not_validated(name, "the answer is not text/plain")
        if answer.text != token:
            raise _not_validated(name, "the answer is not the validation token")

    async def _list(self, call: Call) -> Response:
        values = [
            self._render(call, each)
            for each in list(self._state.subscriptions.values())
            if (each.tenant_id, each.client_id) == (call.tenant_id, call.client_id)
            and not self._state.expired(each.expires_at)
        ]
        return call.answer(render.collection(call.context("subscriptions"), values))

    async def _get(self, call: Call) -> Response:
        return call.answer(self._render(call, self._of(call)))

    async def _renew(self, call: Call) -> Response:
        """A new expiry; renewing authorises again at the same time."""
        body = await call.json()
        subscription = self._of(call)
        unknown = {name for name in body if not name.startswith("@")} - {"expirationDateTime", "notificationUrl"}
        if unknown:
            raise bad_request(f"The property {sorted(unknown)[0]} cannot be updated.", "InvalidRequest")
        if "expirationDateTime" in body:
            subscription.expires_at = self._expiry(body)
        if body.get("notificationUrl"):
            await self._shake_hands(str(body["notificationUrl"]), "notificationUrl")
            subscription.notification_url = str(body["notificationUrl"])
        subscription.authorized, subscription.warned = True, False
        self._state.mark("subscription", subscription.id)
        return call.answer(self._render(call, subscription))

    async def _reauthorize(self, call: Call) -> Response:
        """Notifications flow again; the expiry stays."""
        subscription = self._of(call)
        subscription.authorized = True
        self._state.mark("subscription", subscription.id)
        return Response(status_code=204)

    async def _delete(self, call: Call) -> Response:
        self._state.drop_subscription(self._of(call))
        return Response(status_code=204)

    def _of(self, call: Call) -> Subscription:
        with self._state.lock:
            subscription = self._state.subscriptions.get(call.part("subscription"))
            mine = subscription is not None and (subscription.tenant_id, subscription.client_id) == (
                call.tenant_id,
                call.client_id,
            )
            if subscription is None or not mine or self._state.expired(subscription.expires_at):
                raise GraphError(404, "ResourceNotFound", "The object was not found.")
            return subscription

    def _render(self, call: Call, subscription: Subscription) -> render.Json:
        # clientState is not in answers: only notifications carry it.
        return {
            "@odata.context": call.context("subscriptions/$entity"),
            "id": subscription.id,
            "resource": subscription.resource,
            "applicationId": subscription.client_id,
            "changeType": ",".join(subscription.change_types),
            "clientState": None,
            "notificationUrl": subscription.notification_url,
            "lifecycleNotificationUrl": subscription.lifecycle_url,
            "expirationDateTime": render.moment(subscription.expires_at),
            "creatorId": subscription.client_id,
            "latestSupportedTlsVersion": "v1_2",
            "includeResourceData": None,
        }

    # --- notifications ---------------------------------------------------------------------------------

    def _on_event(self, event: MailEvent) -> None:
        if self._state.folders[event.folder_id].hidden:
            return
        for subscription in self._state.subscriptions_of(event.message.user_id):
            if event.kind not in subscription.change_types:
                continue
            if subscription.folder_id is not None and subscription.folder_id != event.folder_id:
                continue
            if subscription.authorized:
                self._notify(subscription, event.kind, event.message)
            else:
                self.sent["withheld"] += 1

    def _notify(self, subscription: Subscription, kind: str, message: Message) -> None:
        given = message.id if subscription.immutable_ids else ids.ordinary_id(message.id, message.folder_id)
        resource = f"Users/{message.user_id}/Messages/{given}"
        notification = {
            **self._head(subscription),
            "id": secrets.token_urlsafe(12),
            "changeType": kind,
            "resource": resource,
            "resourceData": {
                "@odata.type": "#Microsoft.Graph.Message",
                "@odata.id": resource,
                "@odata.etag": render.etag(message),
                "id": given,
            },
        }
        self.sent[kind] += 1
        self._send(subscription.notification_url, notification, subscription)

    def _head(self, subscription: Subscription) -> render.Json:
        return {
            "subscriptionId": subscription.id,
            "subscriptionExpirationDateTime": render.moment(subscription.expires_at),
            "clientState": subscription.client_state,
            "tenantId": subscription.tenant_id,
        }

    def _send(self, url: str, notification: render.Json, subscription: Subscription | None) -> None:
        """Send now, or together with what comes for the same address within the batch time."""
        seconds = self._state.switches.batch_seconds
        waiting = (notification, subscription.id if subscription is not None else None)
        if seconds <= 0:
            self._deliver(url, [waiting])
            return
        with self._state.lock:
            first = url not in self._waiting
            self._waiting.setdefault(url, []).append(waiting)
        if first:
            self._notifier.later(seconds, lambda: self._send_waiting_for(url))

    def send_waiting(self) -> None:
        """Send what waits for more, now."""
        for url in list(self._waiting):
            self._send_waiting_for(url)

    def _send_waiting_for(self, url: str) -> None:
        with self._state.lock:
            batch = self._waiting.pop(url, [])
        if batch:
            self._deliver(url, batch)

    def _deliver(self, url: str, batch: list[tuple[render.Json, str | None]]) -> None:
        def gave_up() -> None:
            # What was not delivered is told once per subscription, in a ``missed`` lifecycle notification.
            for subscription_id in {each for _, each in batch if each is not None}:
                self.lifecycle(subscription_id, "missed")

        body = json.dumps({"value": [notification for notification, _ in batch]}).encode()
        self._notifier.send(Delivery(url, body, gave_up=gave_up))

    def lifecycle(self, subscription_id: str, event: str) -> bool:
        """Send a lifecycle notification: reauthorizationRequired, subscriptionRemoved or missed.

        Returns:
            Whether one was sent: the subscription exists and named a lifecycle address.
        """
        with self._state.lock:
            subscription = self._state.subscriptions.get(subscription_id)
            if subscription is None:
                return False
            if event == "reauthorizationRequired":
                subscription.authorized = False
                self._state.mark("subscription", subscription.id)
            if event == "subscriptionRemoved":
                self._state.drop_subscription(subscription)
        if subscription.lifecycle_url is None:
            return False
        self.sent[event] += 1
        self._send(subscription.lifecycle_url, {**self._head(subscription), "lifecycleEvent": event}, None)
        return True

    def tend(self) -> None:
        """Warn of subscriptions that are about to expire and forget those that have; called every second."""
        now = self._state.clock.now()
        with self._state.lock:
            for subscription in list(self._state.subscriptions.values()):
                if subscription.expires_at <= now:
                    self._state.drop_subscription(subscription)
                elif subscription.expires_at - now <= WARN_BEFORE and not subscription.warned:
                    subscription.warned = True
                    # The flow of notifications goes on for a while: only an expired one stops it.
                    self.lifecycle(subscription.id, "reauthorizationRequired")
                    subscription.authorized = True


def _not_validated(name: str, reason: str) -> GraphError:
    return bad_request(
        f"Subscription validation request failed for {name}: {reason}. The endpoint must answer with 200 and the "
        "validation token as text/plain.",
        "ValidationError",
    )
