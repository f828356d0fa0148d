"""Alembic's entry: runs on the connection that ``app.migrations.run`` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from app.migrations.env_filter import include
from app.migrations.models import Base


def run() -> None:
    """Run migrations online."""
    options = {"target_metadata": Base.metadata, "include_object": include, "transaction_per_migration": True}
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(context.config.attributes["url"])
    with engine.connect() as own:
        context.configure(connection=own, **options)
        with context.begin_transaction():
            context.run_migrations()


run()
