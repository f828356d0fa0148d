"""The gateway with everything it runs on in a process of its own, or in one that runs every role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.gateway.app import Gateway, create_gateway
from app.gateway.clicks import PageSource
from app.gateway.deps import GatewayDeps
from app.gateway.ingest import Ingest
from app.gateway.limits import Limits
from app.gateway.lookups import DeliveryFindings, StoredPayloads
from app.gateway.networks import Networks
from app.kit.clock import Clock, utc_now
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.spool import SpoolWriter
from app.kit.spool_reader import SpoolReader
from app.policy.snapshots import SnapshotStore
from app.settings import Settings
from app.verdicts.asking import open_desk
from app.verdicts.judge import InlineSource
from app.verdicts.lists import installed_lists
from app.verdicts.sources.distribution import FeedFollower

if TYPE_CHECKING:
    from app.kit.safe_http import SafeFetcher


def build_gateway(
    settings: Settings,
    keyring: KeyRing,
    database: Database | None,
    *,
    clock: Clock = utc_now,
    limits: Limits | None = None,
    fetcher: SafeFetcher | None = None,
) -> Gateway:
    """Wire the gateway.

    Args:
        settings: The process's settings; ``data_dir`` holds spool and policies, ``feed_file`` the list.
        keyring: Master keys, retired ones included.
        database: None: clicks are answered from what is on disk and wait in the spool.
        clock: Aware UTC.
        limits: What is too much; None: the defaults.
        fetcher: Fetches pages where ``check_pages`` is set; None: with the default bounds.

    Returns:
        An ASGI application. Serve it (its lifespan starts and stops everything), or call ``start`` and
        ``stop`` where another application's lifespan is served.
    """
    folder = settings.data_dir / "gateway"
    spool_folder = folder / "spool"
    snapshots = SnapshotStore(folder)
    lists = installed_lists(settings.feed_file, settings.data_dir)
    pages = _page_check(lists, fetcher) if settings.check_pages else None
    deps = GatewayDeps(
        settings=settings,
        keyring=keyring,
        snapshots=snapshots,
        spool=SpoolWriter(spool_folder),
        source=lists,
        pages=pages,
        asker=open_desk(settings),
        clock=clock,
        limits=limits or Limits(),
        datacentres=Networks.read(settings.datacentre_networks),
    )
    if database is None:
        return create_gateway(deps)
    ingest = Ingest(SpoolReader(spool_folder), database, snapshots, settings.click_ingest_ms / 1000)
    return create_gateway(
        GatewayDeps(
            settings=settings,
            keyring=keyring,
            snapshots=snapshots,
            spool=deps.spool,
            source=deps.source,
            payloads=StoredPayloads(database, snapshots),
            delivery=DeliveryFindings(database, snapshots),
            pages=pages,
            asker=deps.asker,
            clock=clock,
            limits=deps.limits,
            datacentres=deps.datacentres,
            background=(lambda: snapshots.follow(database), ingest.run, FeedFollower(database, settings.data_dir).run),
        )
    )


def _page_check(lists: InlineSource, fetcher: SafeFetcher | None) -> PageSource:
    # Imported where it is wanted: the HTML parser is a tenth of the process's memory.
    from app.kit.safe_http import SafeFetcher
    from app.verdicts.page_check import PageCheck

    return PageCheck(fetcher or SafeFetcher(), lists)
