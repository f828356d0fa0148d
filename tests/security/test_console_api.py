"""The console's JSON API under generated requests: it never fails, and answers as it says it does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance

from app.console.app import create_console
from app.tenants.actor import Role
from tests.integration.console.estate import add_message, make_estate
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("role", [Role.OWNER, Role.DOMAIN_ADMIN])
async def test_generated_calls_get_an_answer_of_the_described_form(console: Console, role: Role) -> None:
    tenant_id, _, box = await make_estate(console)
    await add_message(console, tenant_id, box)
    browser = await console.signed_in(tenant_id, role)
    await browser.page("/settings")
    described = create_console(console.deps).openapi()
    schema = schemathesis.openapi.from_dict(described, config=SchemathesisConfig())
    cookies, headers = dict(browser.http.cookies), {"X-CSRF-Token": browser.csrf}
    asked: set[str] = set()

    def call_all() -> None:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()

            @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def call(case: schemathesis.Case[Any]) -> None:
                case.headers.update(headers)
                answer = case.call(base_url=console.url, cookies=cookies, allow_redirects=False)
                assert answer.status_code < 500, answer.text
                case.validate_response(answer, checks=[response_schema_conformance])

            call()
            asked.add(operation.path)

    await asyncio.to_thread(call_all)
    assert asked == set(described["paths"])
