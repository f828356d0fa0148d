"""What the console is given by the wiring."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from app.kit.clock import Clock, utc_now
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.providers import Providers
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class ConsoleDeps:
    """Everything the console needs from outside.

    Attributes:
        settings: The process's settings; ``console_url`` is where browsers reach the console.
        database: As the application role.
        keys: Seals what is handed to browsers.
        providers: Sign-in, consent and connectors.
        clock: The time.
    """

    settings: Settings
    database: Database
    keys: KeyRing
    providers: Providers
    clock: Clock = utc_now


def console_deps(request: Request) -> ConsoleDeps:
    """The application's dependencies, for a request."""
    deps = request.app.state.deps
    if not isinstance(deps, ConsoleDeps):
        raise TypeError("the console was not made by create_console")
    return deps
