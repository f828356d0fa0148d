"""The gateway's public endpoints under generated requests: none of them makes it fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from app.gateway.limits import Limits
from app.kit.crypto import KeyRing
from app.policy.engine import PolicySnapshot
from tests.integration.gateway.serving import Served, serve

_TEXT = {"type": "string"}
_PARAMETERS = [
    {"name": name, "in": "header", "schema": _TEXT}
    for name in ("accept-language", "user-agent", "sec-purpose", "sec-fetch-site", "origin", "sec-fetch-mode")
]
_PATH = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in ("host", "token")]
_QUERY = [{"name": "wait", "in": "query", "schema": _TEXT}]


def _form(*names: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict.fromkeys(names, _TEXT)}
    return {"content": {"application/x-www-form-urlencoded": {"schema": schema}, "text/plain": {"schema": _TEXT}}}


_ANY = {"default": {"description": "any answer but a failure"}}
_CLICK = {
    "parameters": [*_PATH, *_QUERY, *_PARAMETERS],
    "get": {"responses": _ANY},
    "head": {"responses": _ANY},
    "options": {"responses": _ANY},
    "put": {"responses": _ANY},
    "delete": {"responses": _ANY},
    "post": {"requestBody": _form("act", "key", "reason"), "responses": _ANY},
}
SCHEMA = schemathesis.openapi.from_dict(
    {
        "openapi": "3.1.0",
        "info": {"title": "Click gateway", "version": "1"},
        "paths": {
            "/l/{host}/{token}": _CLICK,
            "/l/-/{name}": {
                "parameters": [
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": {
                            "anyOf": [
                                _TEXT,
                                {"type": "string", "pattern": r"^logo-[0-9]{1,20}-[0-9a-f]{32}\.png$"},
                                {
                                    "type": "string",
                                    "pattern": r"^seen-[0-9]{1,20}-[0-9a-f]{32}-[0-9a-f]{1,12}\.x{24}\.gif$",
                                },
                            ]
                        },
                    },
                    *_PARAMETERS,
                ],
                "get": {"responses": _ANY},
                "head": {"responses": _ANY},
                "post": {"responses": _ANY},
            },
            "/explain": {
                "parameters": _PARAMETERS,
                "get": {"responses": _ANY},
                "post": {"requestBody": _form("link"), "responses": _ANY},
                "put": {"responses": _ANY},
            },
            "/healthz": {"get": {"responses": _ANY}},
            "/readyz": {"get": {"responses": _ANY}},
            "/{anything}": {
                "parameters": [{"name": "anything", "in": "path", "required": True, "schema": _TEXT}],
                "get": {"responses": _ANY},
            },
        },
    },
    config=SchemathesisConfig(),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    generous = Limits(per_token=10**9, per_address=10**9, broken_per_address=10**9, forms_per_token=10**9)
    folder: Path = tmp_path_factory.mktemp("gateway")
    keyring = KeyRing({1: bytes(range(32))})
    with serve(folder, keyring, snapshots=(PolicySnapshot(1001, name="Contoso"),), limits=generous) as running:
        running.list_as("suspicious", "odd.example")
        yield running


def judge(answer: httpx.Response | Any, *, prefetch: bool) -> None:
    """No failure, and no way out of the gateway."""
    assert answer.status_code < 500 or (prefetch and answer.status_code == 503), answer.text
    assert "location" not in answer.headers


@SCHEMA.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_generated_requests_get_an_answer(case: schemathesis.Case, served: Served) -> None:
    answer = case.call(base_url=served.url, allow_redirects=False)
    judge(answer, prefetch="sec-purpose" in case.headers)


GENUINE = re.compile(r"/l/([^/]+)/([^/]+)\Z")


@SCHEMA.include(path="/l/{host}/{token}").parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_generated_requests_with_a_genuine_link_get_an_answer(case: schemathesis.Case, served: Served) -> None:
    match = GENUINE.search(served.link("https://odd.example/x"))
    assert match is not None
    case.path_parameters = {"host": match[1], "token": match[2]}
    answer = case.call(base_url=served.url, allow_redirects=False)
    judge(answer, prefetch="sec-purpose" in case.headers)
