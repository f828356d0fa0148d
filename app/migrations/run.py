"""Bring a database to the newest schema: ``postern migrate``."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from app.kit.db import sqlalchemy_url

_HERE = Path(__file__).parent
_LOCK = 0x706F7374


def alembic_config(url: str) -> Config:
    """Alembic's configuration for the owner's address."""
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["url"] = sqlalchemy_url(url)
    return config


def migrate(owner_url: str) -> None:
    """Run all migrations that are missing; two processes at once wait for each other.

    Args:
        owner_url: libpq address of the role that owns the tables.
    """
    engine = create_engine(sqlalchemy_url(owner_url))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
            config = alembic_config(owner_url)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
    finally:
        engine.dispose()
