"""Database access: one engine per process, one unit of work per request or job, always as one tenant.

Row-level security does the isolation: a transaction names its tenant with ``SET LOCAL postern.tenant_id``
(https://www.postgresql.org/docs/current/ddl-rowsecurity.html) and sees that tenant's rows alone; without a
tenant it sees none. The application's role can neither bypass nor change the policies.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar

import psycopg
from sqlalchemy import BigInteger, DateTime, LargeBinary, MetaData, event, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

from app.kit.at_once import Pipelines, Row, Statement
from app.kit.errors import ConfigurationError

PING_AFTER_IDLE_SECONDS = 1.0


class Base(DeclarativeBase):
    """All tables. Constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        uuid.UUID: UUID(as_uuid=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        bytes: LargeBinary,
        int: BigInteger,
        datetime: DateTime(timezone=True),
    }


def tenant_of(session: AsyncSession) -> uuid.UUID:
    """The tenant whose rows a unit of work sees.

    Raises:
        LookupError: It names none.
    """
    tenant = session.info.get("tenant_id")
    if not isinstance(tenant, uuid.UUID):
        raise LookupError("the unit of work names no tenant")
    return tenant


def sqlalchemy_url(url: str) -> str:
    """The same address for SQLAlchemy's psycopg 3 dialect."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _note_idle(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["idle_since"] = time.monotonic()


def _ping_after_idle(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Ask a connection that has rested whether it is still alive; one in steady use is not asked each time.

    ``pool_pre_ping`` would cost a round trip per transaction, a tenth of a protected message's database time.
    """
    if time.monotonic() - record.info.get("idle_since", 0.0) < PING_AFTER_IDLE_SECONDS:
        return
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT 1")
        connection.rollback()
    except psycopg.Error as error:
        # SQLAlchemy then opens another connection in its place.
        raise DisconnectionError from error
    finally:
        cursor.close()


class Database:
    """The process's connection pool.

    Args:
        url: libpq address of the unprivileged role.
        pool_size: Connections at most, two at least: some for units of work, some for what takes one round trip
            (:meth:`at_once`, jobs), so that neither waits for the other.

    Attributes:
        url: As given.
        pipelines: The connections for one round trip.
    """

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.url = url
        for_one_round_trip = max(1, pool_size // 2)
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=max(1, pool_size - for_one_round_trip),
            max_overflow=0,
            pool_timeout=30,
            # Errors end in logs and journals: they must not carry subjects, addresses or links there.
            hide_parameters=True,
        )
        event.listen(self.engine.sync_engine, "checkin", _note_idle)
        event.listen(self.engine.sync_engine, "checkout", _ping_after_idle)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.pipelines = Pipelines(url, for_one_round_trip)

    @asynccontextmanager
    async def tenant(self, tenant_id: uuid.UUID) -> AsyncIterator[AsyncSession]:
        """A transaction that sees one tenant; committed at the end, rolled back on an error.

        ``session.info["tenant_id"]`` names the tenant.
        """
        async with self._sessions(info={"tenant_id": tenant_id}) as session, session.begin():
            await session.execute(
                text("SELECT set_config('postern.tenant_id', :tenant, true)"), {"tenant": str(tenant_id)}
            )
            yield session

    async def at_once(self, tenant_id: uuid.UUID | None, *statements: Statement) -> list[list[Row]]:
        """A transaction of one tenant in one round trip; see :mod:`app.kit.at_once`.

        Args:
            tenant_id: Whose; None sees no tenant's rows: for routing functions and shared tables alone.
            statements: What to run, in order.

        Returns:
            The rows of each statement.

        Raises:
            DBAPIError: One of them failed; nothing was changed.
        """
        return await self.pipelines.run(tenant_id, statements)

    @asynccontextmanager
    async def untenanted(self) -> AsyncIterator[AsyncSession]:
        """A transaction that sees no tenant's rows: for routing functions and shared tables alone."""
        async with self._sessions() as session, session.begin():
            yield session

    async def check_role(self) -> None:
        """Refuse to work as a role that row-level security does not bind.

        Raises:
            ConfigurationError: The role is a superuser, bypasses row security, or owns tables.
        """
        async with self.untenanted() as session:
            row = (
                await session.execute(
                    text(
                        "SELECT r.rolname, r.rolsuper OR r.rolbypassrls AS above, EXISTS ("
                        "  SELECT 1 FROM pg_tables t WHERE t.schemaname = 'public' AND t.tableowner = r.rolname"
                        ") AS owns FROM pg_roles r WHERE r.rolname = current_user"
                    )
                )
            ).one()
        if row.above or row.owns:
            raise ConfigurationError(
                f"The database role {row.rolname} can bypass row-level security. Connect as an unprivileged "
                "role (POSTERN_DATABASE_URL) and keep the owner for migrations (POSTERN_DATABASE_OWNER_URL)."
            )

    async def ping(self) -> None:
        """Raise where the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.pipelines.close()
        await self.engine.dispose()
