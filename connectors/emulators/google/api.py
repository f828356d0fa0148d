"""How a Google REST method is declared and served.

A :class:`Method` carries what Google's discovery document says of it (id, path, parameters, scopes), so that
a test can compare the two. The common rules are applied here: authentication, scopes, unknown parameters,
enumerations, partial responses (https://developers.google.com/workspace/gmail/api/guides/performance).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.emulators.google.errors import ApiError, insufficient_scope, invalid
from connectors.emulators.google.state import GoogleState
from connectors.emulators.google.tokens import Grant

AUTH = "https://www.googleapis.com/auth/"
COMMON_PARAMETERS = frozenset(
    {
        "$.xgafv",
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "upload_id",
    }
)
"""Query parameters that every Google API takes."""


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter."""

    kind: Literal["string", "integer", "boolean"] = "string"
    repeated: bool = False
    choices: tuple[str, ...] = ()
    default: str | None = None


@dataclass(slots=True)
class Call:
    """One call of a method.

    Attributes:
        state: The emulated Google.
        grant: What the access token stands for.
        path: Path parameters.
        query: Query parameters, typed; missing ones are absent unless they have a default.
        body: The JSON body, or an empty mapping.
        media: The uploaded message or file, if one was.
        alt: ``media`` asks for a file's content instead of its description.
    """

    state: GoogleState
    grant: Grant
    path: dict[str, str]
    query: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    media: bytes | None = None
    alt: str = "json"

    def page_size(self, name: str = "maxResults", default: int = 100, most: int = 500) -> int:
        """The page size asked for, within the limits."""
        wanted = self.query.get(name, default)
        return max(1, min(int(wanted), most))

    def strings(self, name: str) -> list[str]:
        """A list of strings in the body.

        Raises:
            ApiError: 400 where it is something else.
        """
        value = self.body.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise invalid(f"Invalid value at '{name}'")
        return list(value)


@dataclass(frozen=True, slots=True)
class Content:
    """An answer that is a file and not JSON (``alt=media``)."""

    data: bytes
    mime_type: str


Handler = Callable[[Call], "dict[str, Any] | Content | None"]


@dataclass(frozen=True, slots=True)
class Method:
    """A REST method.

    Attributes:
        id: As in the discovery document, e.g. ``gmail.users.messages.get``.
        http: GET, POST ...
        path: Under the mount, with ``{parameters}``.
        scopes: Any one of these suffices.
        handler: Runs with the state's lock held; None answers 204.
        params: Query parameters.
        units: Quota units (Gmail).
        upload: Also takes an upload of the message at ``/upload`` + path.
        patient: Asked again, up to ``Behaviour.pull_wait`` seconds, while its answer is empty (pull).
        request: Fields of the JSON body that mean something here.
        default_fields: Answered where the call does not select fields (Drive).
    """

    id: str
    http: str
    path: str
    scopes: frozenset[str]
    handler: Handler
    params: Mapping[str, Param] = field(default_factory=dict)
    units: int = 0
    upload: bool = False
    patient: bool = False
    request: frozenset[str] = frozenset()
    default_fields: str | None = None


Gate = Callable[[Call, Method], "str | None"]
"""Checks that come before a method, e.g. that the mailbox may be used; gives the user to count calls for."""


def scopes(*names: str) -> frozenset[str]:
    """Scopes by their last part; a name with a colon is taken whole."""
    return frozenset(name if ":" in name else AUTH + name for name in names)


def route(method: Method, state: GoogleState, gate: Gate | None = None) -> Route:
    """A route for plain JSON calls."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await read_json(request, method)
            return await serve(state, method, request, body, None, gate)
        except ApiError as error:
            return error_response(error)

    return Route(method.path, endpoint, methods=[method.http])


async def serve(
    state: GoogleState,
    method: Method,
    request: Request,
    body: dict[str, Any],
    media: bytes | None,
    gate: Gate | None,
) -> Response:
    """Check a call and run it.

    Raises:
        ApiError: It is refused.
    """
    with contextlib.ExitStack() as under_way:
        with state.lock:
            grant = state.tokens.check(_authorization(request))
            if not grant.scopes & method.scopes:
                raise insufficient_scope(method.scopes, method.id)
            path = {name: str(value) for name, value in request.path_params.items()}
            alt = request.query_params.get("alt", "json")
            call = Call(state, grant, path, _query(request, method), body, media, alt)
            user = gate(call, method) if gate is not None else None
            if user is not None:
                under_way.enter_context(state.quota.call(user, state.behaviour))
        if state.behaviour.latency:
            await asyncio.sleep(state.behaviour.latency)
        answer = await _run(state, method, call)
    if isinstance(answer, Content):
        return Response(answer.data, media_type=answer.mime_type)
    return respond(answer, request.query_params.get("fields") or method.default_fields)


async def _run(state: GoogleState, method: Method, call: Call) -> dict[str, Any] | Content | None:
    waited = 0.0
    while True:
        with state.lock:
            answer = method.handler(call)
        if answer or not method.patient or waited >= state.behaviour.pull_wait:
            return answer
        await asyncio.sleep(0.05)
        waited += 0.05


def respond(answer: dict[str, Any] | None, fields: str | None) -> Response:
    """The answer as JSON, reduced to the fields asked for; None is 204."""
    if answer is None:
        return Response(status_code=204)
    return JSONResponse(partial(answer, fields) if fields else answer)


def error_response(error: ApiError) -> Response:
    """A refusal as JSON."""
    return JSONResponse(error.body(), error.code, headers=error.headers)


async def read_json(request: Request, method: Method) -> dict[str, Any]:
    """The JSON body; empty where there is none.

    Raises:
        ApiError: 400 where it is not a JSON object.
    """
    data = await request.body()
    return parse_json(data) if data and method.http != "GET" else {}


def parse_json(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ApiError: 400 where it is anything else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise invalid("Invalid JSON payload received.", "parseError") from None
    if not isinstance(value, dict):
        raise invalid("Invalid JSON payload received. Root element must be a message.", "parseError")
    return value


def _authorization(request: Request) -> str | None:
    token = request.query_params.get("access_token") or request.query_params.get("oauth_token")
    return f"Bearer {token}" if token else request.headers.get("authorization")


def _query(request: Request, method: Method) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: _typed(name, param, param.default) for name, param in method.params.items() if param.default is not None
    }
    for name in request.query_params:
        param = method.params.get(name)
        if param is None:
            if name in COMMON_PARAMETERS:
                continue
            message = f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
            raise invalid(message)
        given = request.query_params.getlist(name)
        values[name] = (
            [_typed(name, param, text) for text in given] if param.repeated else _typed(name, param, given[-1])
        )
    return values


def _typed(name: str, param: Param, text: str) -> str | int | bool:
    if param.choices and text not in param.choices:
        raise invalid(f"Invalid value at '{name}': \"{text}\"")
    if param.kind == "boolean":
        if text.lower() not in ("true", "false", "1", "0"):
            raise invalid(f"Invalid value at '{name}' (TYPE_BOOL), \"{text}\"")
        return text.lower() in ("true", "1")
    if param.kind == "integer":
        if not text.isdecimal():
            raise invalid(f"Invalid value at '{name}' (TYPE_UINT32), \"{text}\"")
        return int(text)
    return text


_FIELD = re.compile(r"[^,/()]+|[,/()]")


def partial(answer: Any, fields: str) -> Any:
    """A partial response: ``fields=messages(id,threadId),nextPageToken`` or ``payload/headers``, or ``*``.

    Raises:
        ApiError: 400 where the expression cannot be read.
    """
    parts = _FIELD.findall(fields.replace(" ", ""))
    tree, rest = _field_list(parts)
    if rest:
        raise invalid(f"Invalid field selection {fields}")
    return _select(answer, tree)


def _field_list(parts: list[str]) -> tuple[dict[str, Any], list[str]]:
    """``a,b/c,d(e,f)`` as a tree, and what comes after it."""
    tree: dict[str, Any] = {}
    while True:
        name, inner, parts = _field(parts)
        tree[name] = {**tree.get(name, {}), **inner}
        if parts[:1] != [","]:
            return tree, parts
        parts = parts[1:]


def _field(parts: list[str]) -> tuple[str, dict[str, Any], list[str]]:
    if not parts or parts[0] in ",/()":
        raise invalid("Invalid field selection")
    name, parts = parts[0], parts[1:]
    if parts[:1] == ["/"]:
        child, inner, parts = _field(parts[1:])
        return name, {child: inner}, parts
    if parts[:1] == ["("]:
        inner, parts = _field_list(parts[1:])
        if parts[:1] != [")"]:
            raise invalid("Invalid field selection")
        return name, inner, parts[1:]
    return name, {}, parts


def _select(value: Any, tree: dict[str, Any]) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_select(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _select(value[name], inner) for name, inner in tree.items() if name in value}
