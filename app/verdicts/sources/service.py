"""Setting up sources, reading how they are doing, and deciding about what is held."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.errors import Conflict, NotFound, Refused
from app.kit.jobs import defer
from app.verdicts.feed_keys import MAX_SOURCES
from app.verdicts.scoring import Level
from app.verdicts.sources.files import file_name
from app.verdicts.sources.models import FeedFileRow, ThreatSourceRow
from app.verdicts.sources.registry import kind_of, kinds
from app.verdicts.sources.types import Health, Kind, SourceConfig

BUILD: Final = "feeds.build"
REFRESH: Final = "feeds.refresh"
SWAPPED: Final = "feeds.swapped"
REVIEW: Final = "services.review"
QUEUE: Final = "feeds"
CHANNEL: Final = "postern_feeds"
MAX_WEIGHT: Final = 100
_NAME_RE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,60}\Z")
_LANES: Final = 2


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source and how it is doing, for showing.

    Attributes:
        config: As it was set up.
        title: Of its kind.
        family: ``list`` or ``signal``.
        licence: The note to show.
        licence_url: Where the terms stand.
        health: How it is doing.
        reasons: Why its new list is held; empty where none is.
        held_at: Since when.
        problems: The first entries that were passed over.
    """

    config: SourceConfig
    title: str
    family: str
    licence: str
    licence_url: str
    health: Health
    reasons: tuple[str, ...] = ()
    held_at: datetime | None = None
    problems: tuple[str, ...] = ()

    @property
    def condition(self) -> str:
        """``off``, ``held``, ``failing``, ``waiting`` (on, and never asked yet) or ``on``."""
        if not self.config.enabled:
            return "off"
        if self.reasons:
            return "held"
        if self.health.error:
            return "failing"
        asked = self.health.last_success is not None or self.health.next_try is not None
        return "on" if asked else "waiting"

    @property
    def downloaded(self) -> bool:
        """Whether it has entries of its own here."""
        return self.family == "list" or self.health.entries > 0


def config_of(row: ThreatSourceRow) -> SourceConfig:
    """A row as the sources know it."""
    return SourceConfig(
        name=row.name,
        kind=row.kind,
        address=row.address,
        secret_ref=row.secret_ref,
        every_seconds=row.every_seconds,
        level=Level(row.level),
        weight=row.weight,
        licence=row.licence,
        enabled=row.enabled,
        options=dict(row.options),
    )


def checked(config: SourceConfig) -> SourceConfig:
    """A configuration that can be kept.

    Raises:
        Refused: Something in it is not acceptable, by name.
    """
    kind = kind_of(config.kind)
    if not _NAME_RE.match(config.name) or config.name != config.name.strip():
        raise Refused("A source's name has 1 to 60 characters, none of them a control character.", "source_name")
    if config.secret_ref and config.secret_ref.partition(":")[0] not in ("env", "file"):
        raise Refused(
            "A key is given as env:NAME or file:PATH, never itself: it would be kept. Nothing was changed.",
            "source_secret",
        )
    if kind.needs_secret and not config.secret_ref:
        raise Refused(f"{kind.title} wants a key: give --key env:NAME or --key file:PATH.", "source_secret")
    if not config.address and not kind.address:
        raise Refused(f"{kind.title} needs an address.", "source_address")
    _check_address(config.address)
    if config.every_seconds < kind.least_seconds:
        raise Refused(
            f"{kind.title} is asked every {kind.least_seconds} seconds at most. Nothing was changed.", "source_every"
        )
    if not 1 <= config.weight <= MAX_WEIGHT:
        raise Refused(f"A weight is between 1 and {MAX_WEIGHT}.", "source_weight")
    if config.level not in (Level.MALICIOUS, Level.SUSPICIOUS):
        raise Refused("A source says malicious or suspicious.", "source_level")
    unknown = set(config.options) - set(kind.options) - set(kind.defaults)
    if unknown:
        raise Refused(
            f"{kind.title} has no option {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(kind.options)) or 'none'}.",
            "source_option",
        )
    return config


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        if parts.username or parts.password:
            raise Refused(
                "The address holds a name or a password; give a key with --key instead. Nothing was changed.",
                "source_address",
            )
    except ValueError:
        raise Refused("The address cannot be read. Nothing was changed.", "source_address") from None


def new_config(kind_name: str, name: str = "", **values: Any) -> SourceConfig:
    """A configuration of a kind with what that kind usually has.

    Args:
        kind_name: Of the registry.
        name: Empty: the kind's title.
        values: What differs; None counts as not given.

    Raises:
        Refused: There is no such kind, or a value is not acceptable.
    """
    kind: Kind = kind_of(kind_name)
    given = {key: value for key, value in values.items() if value is not None}
    options = {**kind.defaults, **given.pop("options", {})}
    usual: dict[str, Any] = {
        "address": kind.address,
        "every_seconds": max(kind.every_seconds, kind.least_seconds),
        "level": kind.level,
        "weight": kind.weight,
    }
    return checked(SourceConfig(name=name or kind.title, kind=kind.name, options=options, **{**usual, **given}))


async def add_source(session: AsyncSession, config: SourceConfig) -> None:
    """Set up a source.

    Raises:
        Refused: It is not acceptable, or there are too many.
        Conflict: There is one of that name.
    """
    checked(config)
    names = list(await session.scalars(select(ThreatSourceRow.name)))
    if config.name in names:
        raise Conflict(f"There is a source called {config.name} already. Nothing was changed.")
    if len(names) >= MAX_SOURCES:
        raise Refused(f"There are {MAX_SOURCES} sources at most. Nothing was changed.", "source_count")
    values = dataclasses.asdict(config)
    values["level"] = config.level.value
    values["options"] = dict(config.options)
    session.add(ThreatSourceRow(**values))
    await session.flush()
    if config.enabled:
        await want_refresh(session, config.name)
        await announce(session)


async def set_enabled(session: AsyncSession, name: str, enabled: bool) -> None:
    """Switch a source on or off; what a list gave leaves the store with it.

    Raises:
        NotFound: There is none of that name.
    """
    row = await _row(session, name)
    row.enabled = enabled
    row.next_try = None
    if enabled:
        await want_refresh(session, name)
    else:
        row.state, row.entries, row.failures, row.error = None, 0, 0, ""
        await session.execute(delete(FeedFileRow).where(FeedFileRow.kind == "list", FeedFileRow.source == name))
    await want_build(session)
    await announce(session)


async def remove_source(session: AsyncSession, name: str) -> None:
    """Forget a source and what it listed.

    Raises:
        NotFound: There is none of that name.
    """
    row = await _row(session, name)
    await session.execute(delete(FeedFileRow).where(FeedFileRow.kind == "list", FeedFileRow.source == name))
    own_file = (FeedFileRow.kind == "file", FeedFileRow.source == file_name(config_of(row)))
    await session.execute(delete(FeedFileRow).where(*own_file))
    await session.delete(row)
    await session.flush()
    await want_build(session)
    await announce(session)


async def review(session: AsyncSession, name: str, *, accept: bool) -> int:
    """Use a held list after all, or throw it away.

    A list that was thrown away is not taken again before the publisher changes it.

    Returns:
        How many entries it has.

    Raises:
        NotFound: There is no such source, or nothing of it is held.
    """
    row = await _row(session, name)
    held = await _held(session, name)
    if held is None:
        raise NotFound(f"Nothing of {name} is held. Nothing was changed.")
    if held.whole or accept:
        row.state = held.state
    if accept:
        if held.whole:
            waiting = (FeedFileRow.kind == "list", FeedFileRow.source == name, ~FeedFileRow.held)
            await session.execute(delete(FeedFileRow).where(*waiting))
        held.held = False
        await want_build(session)
    else:
        await session.delete(held)
    return held.entries


async def states(session: AsyncSession) -> list[SourceState]:
    """All sources, by name."""
    held = {
        row.source: row
        for row in await session.scalars(select(FeedFileRow).where(FeedFileRow.kind == "list", FeedFileRow.held))
    }
    rows = await session.scalars(select(ThreatSourceRow).order_by(ThreatSourceRow.name))
    return [_state(row, held.get(row.name)) for row in rows]


def _state(row: ThreatSourceRow, held: FeedFileRow | None) -> SourceState:
    kind = kinds().get(row.kind)
    reasons = () if held is None else tuple(str(reason) for reason in held.reasons)
    health = Health(
        last_success=row.last_success,
        last_change=row.last_change,
        error=row.error,
        failures=row.failures,
        entries=row.entries,
        refused=row.refused,
        next_try=row.next_try,
        held="; ".join(reasons),
    )
    return SourceState(
        config=config_of(row),
        title=row.kind if kind is None else kind.title,
        family="list" if kind is None else kind.family,
        licence=row.licence or ("" if kind is None else kind.licence.note),
        licence_url="" if kind is None else kind.licence.url,
        health=health,
        reasons=reasons,
        held_at=None if held is None else held.made_at,
        problems=tuple(str(problem) for problem in row.problems),
    )


async def due_sources(session: AsyncSession, now: datetime) -> Sequence[str]:
    """Names of the enabled sources whose time has come."""
    query = select(ThreatSourceRow.name).where(
        ThreatSourceRow.enabled, (ThreatSourceRow.next_try.is_(None)) | (ThreatSourceRow.next_try <= now)
    )
    return list(await session.scalars(query.order_by(ThreatSourceRow.name)))


async def active_signal_sources(session: AsyncSession) -> list[dict[str, Any]]:
    """The enabled sources that are asked about single addresses, as JSON; without any key."""
    rows = await session.scalars(select(ThreatSourceRow).where(ThreatSourceRow.enabled).order_by(ThreatSourceRow.name))
    found = []
    for row in rows:
        kind = kinds().get(row.kind)
        if kind is not None and kind.family == "signal":
            values = dataclasses.asdict(config_of(row))
            found.append({**values, "level": row.level, "options": dict(row.options)})
    return found


async def want_refresh(session: AsyncSession, name: str, *, force: bool = False) -> bool:
    """Have a worker ask a source. At most two sources are asked at a time: they must not fill a worker."""
    lane = sum(name.encode()) % _LANES
    return await defer(
        session,
        REFRESH,
        {"name": name, "force": force},
        queue=QUEUE,
        lock=f"feeds.refresh.{lane}",
        queueing_lock=f"feeds.refresh:{name}:{force}",
    )


async def want_build(session: AsyncSession) -> bool:
    """Have a worker build the store anew, if anything changed."""
    return await defer(session, BUILD, {}, queue=QUEUE, lock=BUILD, queueing_lock=BUILD)


async def want_review(session: AsyncSession) -> bool:
    """Have a worker ask the services about delivered links again: one worker at a time, however many there are."""
    return await defer(session, REVIEW, {}, queue=QUEUE, lock=REVIEW, queueing_lock=REVIEW)


async def announce(session: AsyncSession) -> None:
    """Tell every machine to look, once the transaction is committed."""
    await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


async def _row(session: AsyncSession, name: str) -> ThreatSourceRow:
    row = await session.get(ThreatSourceRow, name, with_for_update=True)
    if row is None:
        names = ", ".join(await session.scalars(select(ThreatSourceRow.name).order_by(ThreatSourceRow.name))) or "none"
        raise NotFound(f"There is no source called {name}; there are: {names}. Nothing was changed.")
    return row


async def _held(session: AsyncSession, name: str) -> FeedFileRow | None:
    query = select(FeedFileRow).where(FeedFileRow.kind == "list", FeedFileRow.source == name, FeedFileRow.held)
    return await session.scalar(query.order_by(FeedFileRow.id.desc()).limit(1))
