"""Alembic's entry: runs on the connection that ``app.migrations.run`` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from app.migrations.env_filter import include
from app.migrations.models import Base


def _upgrade(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run() -> None:
    """Run migrations online, on the connection that was handed over or on one of our own."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _upgrade(connection)
        return
    engine = create_engine(context.config.attributes["url"])
    with engine.connect() as own:
        _upgrade(own)


run()
