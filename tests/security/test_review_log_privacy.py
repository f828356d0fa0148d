"""What goes wrong is told without the data it went wrong with: errors end in logs and in the journal."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.kit.db import Database

pytestmark = pytest.mark.anyio


async def test_a_failed_statement_does_not_repeat_what_it_was_given(database: Database) -> None:
    tenant = uuid.uuid4()
    values = {"tenant": tenant, "subject": "Salary of ada@our.example"}
    with pytest.raises(DBAPIError) as caught:
        async with database.tenant(tenant) as session:
            await session.execute(text("INSERT INTO messages (tenant_id, subject) VALUES (:tenant, :subject)"), values)
    assert "parameters hidden" in str(caught.value)
    assert "Salary" not in str(caught.value).partition("DETAIL")[0]
