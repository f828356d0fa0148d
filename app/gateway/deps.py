"""What the gateway works with, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from app.gateway.clicks import DeliverySource, PageSource, PayloadSource, SourceAsker
from app.gateway.limits import Limits
from app.gateway.networks import Networks
from app.kit.clock import Clock, utc_now
from app.kit.crypto import KeyRing
from app.kit.spool import SpoolWriter
from app.policy.snapshots import SnapshotStore
from app.settings import Settings
from app.verdicts.judge import InlineSource


@dataclass(frozen=True, slots=True)
class GatewayDeps:
    """What the gateway works with.

    Attributes:
        settings: Addresses and prefix.
        keyring: Master keys.
        snapshots: Policies of all tenants.
        spool: Where events go before an answer does; started and stopped by the gateway.
        source: The list in memory.
        payloads: Reads the stored target of very long links; None: there is no database.
        delivery: What was noticed at delivery; None: not looked up.
        pages: Looks at the pages behind links; None: nothing is fetched.
        asker: Asks the signal sources; None: none are asked.
        clock: Aware UTC.
        limits: What is too much.
        datacentres: Networks where programs run.
        background: Runs as long as the gateway does (policy refresh, ingest).
    """

    settings: Settings
    keyring: KeyRing
    snapshots: SnapshotStore
    spool: SpoolWriter
    source: InlineSource
    payloads: PayloadSource | None = None
    delivery: DeliverySource | None = None
    pages: PageSource | None = None
    asker: SourceAsker | None = None
    clock: Clock = utc_now
    limits: Limits = field(default_factory=Limits)
    datacentres: Networks = field(default_factory=Networks)
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()


@dataclass(slots=True)
class GatewayStats:
    """Counters since the start."""

    clicks: int = 0
    not_clicks: int = 0
    broken: int = 0
    limited: int = 0
    limited_tenant: int = 0
    """Of ``limited``, those that were too many for one tenant."""
    expired: int = 0
    pages_seen: int = 0
    not_durable: int = 0
