"""Uploads of messages: simple, multipart and resumable.

https://developers.google.com/workspace/gmail/api/guides/uploads
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.emulators.google.api import Gate, Method, error_response, parse_json, serve
from connectors.emulators.google.errors import ApiError, invalid
from connectors.emulators.google.state import GoogleState

MAX_BYTES = 157_286_400
"""``mediaUpload.maxSize`` of insert and import in the discovery document."""

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_MOST_SESSIONS = 100


@dataclass(slots=True)
class _Session:
    """A resumable upload that is not complete."""

    metadata: dict[str, Any]
    received: bytes


def upload_routes(method: Method, state: GoogleState, gate: Gate | None) -> list[Route]:
    """Routes at ``/upload/...`` and ``/resumable/upload/...`` for a method that takes a message."""
    uploads = _Uploads(method, state, gate)
    return [
        Route(prefix + method.path, uploads.receive, methods=[method.http, "PUT"])
        for prefix in ("/upload", "/resumable/upload")
    ]


class _Uploads:
    def __init__(self, method: Method, state: GoogleState, gate: Gate | None) -> None:
        self._method = method
        self._state = state
        self._gate = gate
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    async def receive(self, request: Request) -> Response:
        try:
            return await self._receive(request)
        except ApiError as error:
            return error_response(error)

    async def _receive(self, request: Request) -> Response:
        if int(request.headers.get("content-length") or 0) > MAX_BYTES + 65_536:
            raise _too_large()
        data = await request.body()
        kind = request.query_params.get("uploadType")
        if "upload_id" in request.query_params:
            return await self._continue(request, data)
        if kind == "resumable":
            return self._begin(request, data)
        if kind == "media":
            return await self._finish(request, {}, data)
        if kind == "multipart":
            metadata, media = split_related(request.headers.get("content-type", ""), data)
            return await self._finish(request, metadata, media)
        raise invalid("Invalid upload request")

    async def _finish(self, request: Request, metadata: dict[str, Any], media: bytes) -> Response:
        if len(media) > MAX_BYTES:
            raise _too_large()
        return await serve(self._state, self._method, request, metadata, media, self._gate)

    def _begin(self, request: Request, data: bytes) -> Response:
        with self._state.lock:
            self._state.tokens.check(request.headers.get("authorization"))
        upload_id = secrets.token_urlsafe(24)
        self._sessions[upload_id] = _Session(parse_json(data) if data else {}, b"")
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        address = str(request.url.include_query_params(upload_id=upload_id))
        return Response(headers={"Location": address, "X-GUploader-UploadID": upload_id})

    async def _continue(self, request: Request, data: bytes) -> Response:
        upload_id = request.query_params["upload_id"]
        session = self._sessions.get(upload_id)
        if session is None:
            raise ApiError(404, "Requested entity was not found.", "notFound")
        found = _RANGE.fullmatch(request.headers.get("content-range", ""))
        if found is not None:
            first, _, total = found.groups()
            if first is not None and int(first) != len(session.received):
                raise invalid("Invalid upload request: the range does not continue what was received")
            session.received += data
            if total == "*" or len(session.received) < int(total):
                headers = {"Range": f"bytes=0-{len(session.received) - 1}"} if session.received else {}
                return Response(status_code=308, headers=headers)
        else:
            session.received += data
        answer = await self._finish(request, session.metadata, session.received)
        self._sessions.pop(upload_id, None)
        return answer


def split_related(content_type: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a ``multipart/related`` upload into its JSON and its message, which stays byte for byte.

    Raises:
        ApiError: 400 where it is not two parts with JSON first.
    """
    header = BytesHeaderParser().parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n")
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/related" or not boundary:
        raise invalid("Invalid multipart request: a multipart/related body with a boundary is needed")
    mark = re.escape(boundary.encode("latin-1"))
    pieces = re.split(rb"(?:\A|\r?\n)--" + mark + rb"(?:--)?[ \t]*(?:\r?\n|\Z)", data)
    parts = [piece for piece in pieces[1:] if piece.strip()]
    if len(parts) != 2:
        raise invalid("Invalid multipart request with 0 mime parts." if not parts else "Invalid multipart request")
    return parse_json(_content(parts[0])), _content(parts[1])


def _content(part: bytes) -> bytes:
    found = re.search(rb"\r?\n\r?\n", part)
    if found is None:
        raise invalid("Invalid multipart request: a part without a header")
    return part[found.end() :]


def _too_large() -> ApiError:
    return ApiError(413, "Request Entity Too Large", "uploadTooLarge")
