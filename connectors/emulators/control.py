"""Control interface of the emulators: what no provider has, for tests and the demo.

=================================  ==============================================================
``POST /control/deliver``          ``{"provider", "to", "mime_base64", "place"?}``
``GET/PUT/POST/DELETE .../faults``  report, replace (``{"rules": [...], "seed"?}``), add one rule, clear
``GET/PATCH .../microsoft``        switches of the Microsoft side
``POST .../microsoft/revoke``      ``{"tenant", "client_id"?, "how": "delete"|"disable"|"roles"}``
``POST .../microsoft/lifecycle``   ``{"event", "subscription"?}``
``POST .../microsoft/expire``      ``{"mailbox"}``: delta tokens given out so far are unknown
``GET/PATCH .../google``           switches of the Google side
``POST .../google/expire``         ``{"mailbox"}``: history given out so far is gone
``POST .../microsoft/scope``       ``{"tenant", "mailboxes": [...]|null}``: limit applications to these mailboxes
``POST .../notifications``         ``{"enabled"?, "throttles_slow"?}`` of Graph; for Pub/Sub use a ``lose`` fault
``GET/POST .../clock``             ``{"advance_seconds"}``
``GET .../messages``               ``?provider=&address=``: ids and subjects, as the viewer shows them
``GET .../people``                 who can sign in, and who administers
``POST .../turn-bad``              ``{}``: the demo's harmless link turns bad, also in the feed file
``GET .../visits``                 addresses of the demo's websites that were opened, newest last
``GET .../counts``                 faults, notifications, highest concurrency
=================================  ==============================================================
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields, replace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.emulators.common.faults import FaultRule
from connectors.emulators.common.viewer import MailboxView
from connectors.emulators.microsoft.view import MicrosoftView
from connectors.emulators.world import World

Json = dict[str, object]
Handler = Callable[[Request, Json], Awaitable[Json | list[Json]]]


class Control:
    """Routes of the control interface over a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def app(self) -> Starlette:
        """The ASGI app, to be mounted at ``/control``."""
        return Starlette(
            routes=[
                self._route("POST", "/deliver", self._deliver),
                self._route("GET", "/faults", self._get_faults),
                self._route("PUT", "/faults", self._put_faults),
                self._route("POST", "/faults", self._add_fault),
                self._route("DELETE", "/faults", self._clear_faults),
                self._route("GET", "/microsoft", self._get_microsoft),
                self._route("PATCH", "/microsoft", self._patch_microsoft),
                self._route("POST", "/microsoft/revoke", self._revoke),
                self._route("POST", "/microsoft/lifecycle", self._lifecycle),
                self._route("POST", "/microsoft/expire", self._expire_delta),
                self._route("POST", "/microsoft/scope", self._scope),
                self._route("GET", "/google", self._get_google),
                self._route("PATCH", "/google", self._patch_google),
                self._route("POST", "/google/expire", self._expire_history),
                self._route("POST", "/notifications", self._notifications),
                self._route("GET", "/clock", self._get_clock),
                self._route("POST", "/clock", self._advance),
                self._route("GET", "/messages", self._messages),
                self._route("GET", "/people", self._people),
                self._route("POST", "/turn-bad", self._turn_bad),
                self._route("GET", "/visits", self._visits),
                self._route("GET", "/counts", self._counts),
            ]
        )

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                body = await request.json() if method not in ("GET", "DELETE") else {}
                if not isinstance(body, dict):
                    raise ValueError("the request is not a JSON object")
                return JSONResponse(await handler(request, body))
            except KeyError as error:
                return JSONResponse({"error": f"there is no {error.args[0]}"}, 404)
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": str(error)}, 400)

        return Route(path, endpoint, methods=[method])

    async def _deliver(self, _: Request, body: Json) -> Json:
        try:
            raw = base64.b64decode(str(body.get("mime_base64") or ""), validate=True)
        except binascii.Error as error:
            raise ValueError(f"mime_base64 is not base64: {error}") from error
        if not raw:
            raise ValueError("mime_base64 is missing or empty")
        place = body.get("place")
        given = self._world.deliver(
            str(body.get("provider")), str(body.get("to")), raw, place=str(place) if place else None
        )
        return {"id": given}

    async def _get_faults(self, _: Request, __: Json) -> Json:
        return self._world.faults.report()

    async def _put_faults(self, _: Request, body: Json) -> Json:
        rules, seed = body.get("rules", []), body.get("seed")
        if not isinstance(rules, list):
            raise ValueError("rules must be a list")
        parsed = [FaultRule.from_json(rule) for rule in rules]
        self._world.faults.set_rules(parsed, int(str(seed)) if seed is not None else None)
        return self._world.faults.report()

    async def _add_fault(self, _: Request, body: Json) -> Json:
        self._world.faults.add(FaultRule.from_json(body))
        return self._world.faults.report()

    async def _clear_faults(self, _: Request, __: Json) -> Json:
        self._world.faults.clear()
        return self._world.faults.report()

    async def _get_microsoft(self, _: Request, __: Json) -> Json:
        return asdict(self._world.microsoft.switches)

    async def _patch_microsoft(self, request: Request, body: Json) -> Json:
        state = self._world.microsoft
        known = {each.name: type(getattr(state.switches, each.name)) for each in fields(state.switches)}
        for name, value in body.items():
            fits = type(value) is known.get(name) or (known.get(name) is float and type(value) is int)
            if not fits:
                raise ValueError(f"{name} is no switch of this type; there are {', '.join(sorted(known))}")
        with state.lock:
            state.switches = replace(state.switches, **body)  # type: ignore[arg-type]  # types checked above
            state.mark("switches", "current")
        return await self._get_microsoft(request, {})

    async def _revoke(self, _: Request, body: Json) -> Json:
        state = self._world.microsoft
        tenant_id = str(body.get("tenant"))
        client_id = str(body.get("client_id") or self._world.options.microsoft_client_id)
        how = body.get("how", "delete")
        with state.lock:
            tenant = state.tenants[tenant_id]
            if how == "delete":
                state.revoke(tenant_id, client_id)
            elif how in ("disable", "roles"):
                grant = tenant.grants[client_id]
                grant.enabled = grant.enabled and how != "disable"
                grant.roles = [] if how == "roles" else grant.roles
                state.mark("tenant", tenant_id)
            else:
                raise ValueError("how must be delete, disable or roles")
        return {"revoked": tenant_id}

    async def _lifecycle(self, _: Request, body: Json) -> Json:
        event = str(body.get("event"))
        if event not in ("reauthorizationRequired", "subscriptionRemoved", "missed"):
            raise ValueError("event must be reauthorizationRequired, subscriptionRemoved or missed")
        chosen = [str(body["subscription"])] if "subscription" in body else list(self._world.microsoft.subscriptions)
        service = self._world.microsoft_service.subscriptions
        return {"sent": sum(service.lifecycle(each, event) for each in chosen)}

    async def _expire_delta(self, _: Request, body: Json) -> Json:
        person = self._world.microsoft.person(str(body.get("mailbox")))
        self._world.microsoft.expire_delta_tokens(person.id)
        return {"expired": person.address}

    async def _scope(self, _: Request, body: Json) -> Json:
        state, mailboxes = self._world.microsoft, body.get("mailboxes")
        if mailboxes is not None and not isinstance(mailboxes, list):
            raise ValueError("mailboxes must be a list of addresses or null")
        with state.lock:
            tenant = state.tenants[str(body.get("tenant"))]
            people = [state.person(str(each), tenant.id) for each in mailboxes or ()]
            found = None if mailboxes is None else [person.id for person in people]
            if "roles" in body:  # RBAC for Applications: rights over these mailboxes, in no token
                roles = body["roles"]
                if not isinstance(roles, list):
                    raise ValueError("roles must be a list of permissions")
                client_id = str(body.get("client_id") or self._world.options.microsoft_client_id)
                state.grant_scoped(tenant.id, client_id, map(str, roles), people)
            else:
                tenant.mailbox_scope = found
                state.mark("tenant", tenant.id)
        return {"mailboxes": found}

    async def _get_google(self, _: Request, __: Json) -> Json:
        return self._world.google.behaviour.save()

    async def _patch_google(self, _: Request, body: Json) -> Json:
        state = self._world.google
        unknown = set(body) - set(state.behaviour.save())
        if unknown:
            raise ValueError(f"unknown switch: {', '.join(sorted(unknown))}")
        with state.lock:
            state.behaviour = type(state.behaviour).load({**state.behaviour.save(), **body})
        return state.behaviour.save()

    async def _expire_history(self, _: Request, body: Json) -> Json:
        self._world.google.expire_history(str(body.get("mailbox")))
        return {"expired": str(body.get("mailbox"))}

    async def _notifications(self, _: Request, body: Json) -> Json:
        notifier = self._world.notifier
        if not body or not all(name in ("enabled", "throttles_slow") for name in body):
            raise ValueError("give enabled or throttles_slow")
        if not all(isinstance(value, bool) for value in body.values()):
            raise ValueError("the value must be true or false")
        notifier.enabled = body.get("enabled", notifier.enabled) is True
        self._world.google.behaviour.notifications = notifier.enabled
        notifier.throttles_slow = body.get("throttles_slow", notifier.throttles_slow) is True
        return {"enabled": notifier.enabled, "throttles_slow": notifier.throttles_slow}

    async def _get_clock(self, _: Request, __: Json) -> Json:
        return {"now": self._world.clock.now().isoformat()}

    async def _advance(self, request: Request, body: Json) -> Json:
        self._world.clock.advance(float(str(body.get("advance_seconds"))))
        return await self._get_clock(request, {})

    async def _messages(self, request: Request, _: Json) -> Json:
        address = request.query_params.get("address", "")
        views: dict[str, MailboxView] = {
            "microsoft": MicrosoftView(self._world.microsoft),
            "google": self._world.google,
        }
        view = views[request.query_params.get("provider", "")]
        return {
            "messages": [
                {"id": line.id, "subject": line.subject, "place": line.place, "is_read": line.is_read}
                for line in view.messages(address)
            ]
        }

    async def _people(self, _: Request, __: Json) -> list[Json]:
        microsoft = [
            {"provider": "microsoft", "address": person.address, "name": person.name, "is_admin": person.is_admin}
            for person in self._world.microsoft.people.values()
        ]
        google = [
            {"provider": "google", "address": user.email, "name": user.name, "is_admin": user.admin}
            for user in self._world.google.accounts.users.values()
        ]
        return [*microsoft, *google]

    async def _turn_bad(self, _: Request, __: Json) -> Json:
        return {"turned": self._world.turn_bad()}

    async def _visits(self, _: Request, __: Json) -> Json:
        return {"visits": self._world.sites.visits}

    async def _counts(self, _: Request, __: Json) -> Json:
        throttle = self._world.throttle
        return {
            "highest_concurrency": throttle.highest if throttle is not None else 0,
            "faults": dict(self._world.faults.counts),
            "notifications": dict(self._world.notifier.outcomes),
            "microsoft_notifications": dict(self._world.microsoft_service.subscriptions.sent),
        }
