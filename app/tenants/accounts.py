"""Tenants and the people who sign in to them: who is let in, and with which role.

The tenant of a person is what the provider's validated token says (Entra ``tid``, Google ``hd``), never what
a request says. Each (provider, external id) is one tenant, so a tenant that is bound cannot be bound again.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

import ada_url
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import Database
from app.kit.errors import NotFound, Refused
from app.tenants.actor import Actor, ActorKind, Permission, Role, system_actor
from app.tenants.levels import LEVEL_FROM, is_level_from, level_from
from app.tenants.models import Tenant, User
from app.tenants.people import ROLE_GIVEN, given_by_hand
from connectors.base.types import Provider, SignedIn

MAX_LINK_DAYS = 3_650

LEVEL_CHOICES: Final = {
    "unknown": ("redirect", "warn", "block"),
    "suspicious": ("redirect", "warn", "block", "lock"),
    "malicious": ("warn", "block", "lock"),
}
"""What an organisation may have done at a click, by the level of the verdict."""

_COLOUR_RE: Final = re.compile(r"#[0-9a-f]{6}\Z")


class TenantStatus(StrEnum):
    """How far a tenant has come."""

    ONBOARDING = "onboarding"
    ACTIVE = "active"
    PAUSED = "paused"
    REVOKED = "revoked"
    BLOCKED = "blocked"
    LEAVING = "leaving"


async def find_tenant(database: Database, provider: Provider, external_id: str) -> uuid.UUID | None:
    """The tenant of a provider's organisation, or None. Needs no tenant context."""
    async with database.untenanted() as session:
        found: uuid.UUID | None = await session.scalar(
            text("SELECT postern_find_tenant(:provider, :external_id)"),
            {"provider": provider.value, "external_id": external_id},
        )
    return found


async def find_or_open_tenant(database: Database, who: SignedIn) -> uuid.UUID:
    """The tenant of somebody who signed in; made where an administrator comes first.

    Raises:
        Refused: A personal account (``personal_account``), or nobody has connected the organisation and
            this person does not administer it (``not_connected``).
    """
    if not who.external_tenant:
        raise Refused("This is a personal account. Sign in with the account of your organisation.", "personal_account")
    found = await find_tenant(database, who.provider, who.external_tenant)
    if found is not None:
        return found
    if who.is_admin is False:
        raise Refused(
            "Your organisation is not connected yet. Ask an administrator of your organisation to sign in first.",
            "not_connected",
        )
    tenant_id = uuid.uuid4()
    try:
        async with database.tenant(tenant_id) as session:
            session.add(
                Tenant(
                    tenant_id=tenant_id,
                    name=_name_from(who),
                    provider=who.provider.value,
                    external_id=who.external_tenant,
                    admin_address=who.email,
                )
            )
    except IntegrityError:
        # A colleague signed in at the same moment and was first.
        found = await find_tenant(database, who.provider, who.external_tenant)
        if found is None:
            raise
        return found
    return tenant_id


async def admit(session: AsyncSession, tenant_id: uuid.UUID, who: SignedIn, now: datetime) -> User:
    """Make or refresh the person's account.

    While a tenant is being connected, whoever the provider calls an administrator is its owner for the time
    being, and whoever it says nothing about an operator who has yet to prove it; who gets it done becomes
    the owner (:func:`make_owner`). Afterwards a newcomer is a user, or an operator where the provider says
    that the person administers the organisation.

    An operator who was made one that way, and not by an owner, falls back to a user once the provider says
    that the person does not administer the organisation any more; where it says nothing the role stays.

    Raises:
        NotFound: The tenant went away meanwhile.
    """
    tenant = await session.get(Tenant, tenant_id)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    user = await session.scalar(
        select(User).where(User.tenant_id == tenant_id, User.subject == who.subject).with_for_update()
    )
    onboarding = tenant.status == TenantStatus.ONBOARDING
    if user is None:
        role = Role.OPERATOR if who.is_admin else Role.USER
        user = User(tenant_id=tenant_id, id=uuid.uuid4(), subject=who.subject, role=role.value)
        session.add(user)
    if onboarding:
        user.role = {True: Role.OWNER, None: Role.OPERATOR, False: Role.USER}[who.is_admin].value
    elif user.role == Role.OPERATOR and who.is_admin is False and not await given_by_hand(session, user):
        user.role = Role.USER.value
        detail = {"before": Role.OPERATOR.value, "after": Role.USER.value, "user": str(user.id)}
        await record(session, system_actor(tenant_id, f"{who.provider.value} directory"), ROLE_GIVEN, who.email, detail)
    user.email = who.email
    user.name = who.name[:200]
    user.last_seen_at = now
    await session.flush()
    return user


async def make_owner(session: AsyncSession, actor: Actor) -> None:
    """Who connected the tenant owns it; all who signed in before, proved or not, fall back to users."""
    await session.execute(
        update(User).where(User.tenant_id == actor.tenant_id, User.id != actor.user_id).values(role=Role.USER.value)
    )
    await session.execute(
        update(User).where(User.tenant_id == actor.tenant_id, User.id == actor.user_id).values(role=Role.OWNER.value)
    )


@dataclass(frozen=True, slots=True)
class ClickPages:
    """What a tenant decides about the gateway's pages; kept under ``settings["gateway"]``.

    Attributes:
        name: The organisation's name, as every page shows it.
        contact: Whom a person can ask.
        note: A sentence of the organisation's own.
        failure: ``open`` (warn and let through) or ``closed`` (block) where a link cannot be checked.
        keep_address: Whether a click's record holds the client address (L23).
        link_days: For so many days after a message came its links work; 0: for good.
        accent: The colour of the pages' upper edge, as ``#rrggbb``; empty: that of the page.
        block_url: A page of the organisation's own in place of the block page; empty: none.
        unknown: What a link does of which nothing is known: ``redirect``, ``warn`` or ``block``.
        suspicious: What a suspicious link does: ``redirect``, ``warn``, ``block`` or ``lock``.
        malicious: What a malicious link does: ``warn``, ``block`` or ``lock``.
        suspicious_from: From how many points on a link is suspicious.
        malicious_from: From how many points on a link is malicious.
    """

    name: str
    contact: str = ""
    note: str = ""
    failure: str = "open"
    keep_address: bool = False
    link_days: int = 0
    accent: str = ""
    block_url: str = ""
    unknown: str = "redirect"
    suspicious: str = "warn"
    malicious: str = "block"
    suspicious_from: int = LEVEL_FROM[0]
    malicious_from: int = LEVEL_FROM[1]

    @classmethod
    def of(cls, tenant: Tenant) -> ClickPages:
        """As stored; what is not there has its default."""
        gateway = tenant.settings.get("gateway") or {}
        words = gateway.get("words") or {}
        levels = gateway.get("levels") or {}
        suspicious_from, malicious_from = level_from(gateway.get("level_from"))
        return cls(
            name=tenant.name,
            contact=str(words.get("contact", "")),
            note=str(words.get("note", "")),
            failure="closed" if gateway.get("failure") == "closed" else "open",
            keep_address=gateway.get("keep_address") is True,
            link_days=found if isinstance(found := gateway.get("link_days"), int) else 0,
            accent=str(words.get("accent", "")),
            block_url=str(words.get("block_url", "")),
            unknown=str(levels.get("unknown", "redirect")),
            suspicious=str(levels.get("suspicious", "warn")),
            malicious=str(levels.get("malicious", "block")),
            suspicious_from=suspicious_from,
            malicious_from=malicious_from,
        )

    def checked(self) -> ClickPages:
        """The same without spaces around the texts.

        Raises:
            Refused: The name is empty, a text is too long or has control characters, the colour or the address is
                none, there is no such action, or levels cannot begin there.
        """
        name, contact, note = self.name.strip(), self.contact.strip(), self.note.strip()
        if not name or len(name) > 100 or not name.isprintable():
            raise Refused("The name must have 1 to 100 characters. Nothing was changed.", "bad_name")
        if len(contact) > 200 or not contact.isprintable():
            raise Refused("The contact must have at most 200 characters. Nothing was changed.", "bad_contact")
        if len(note) > 300 or not note.isprintable():
            raise Refused("The note must have at most 300 characters. Nothing was changed.", "bad_note")
        if self.failure not in ("open", "closed"):
            raise Refused("There is no such failure policy. Nothing was changed.", "bad_failure")
        if not 0 <= self.link_days <= MAX_LINK_DAYS:
            raise Refused("Links work for 1 to 3650 days, or for good with 0. Nothing was changed.", "bad_days")
        accent, block_url = self.accent.strip().lower(), self.block_url.strip()
        if accent and not _COLOUR_RE.match(accent):
            raise Refused("The colour must be written like #1f6f5c. Nothing was changed.", "bad_colour")
        if block_url and not _is_web_page(block_url):
            raise Refused("The page of your own must be a web address (https://...). Nothing was changed.", "bad_page")
        for level, actions in LEVEL_CHOICES.items():
            if getattr(self, level) not in actions:
                raise Refused("There is no such action for this kind of link. Nothing was changed.", "bad_action")
        if not is_level_from(self.suspicious_from, self.malicious_from):
            raise Refused(
                "Levels begin at 1 to 200 points, malicious above suspicious. Nothing was changed.", "bad_level_from"
            )
        return replace(self, name=name, contact=contact, note=note, accent=accent, block_url=block_url)


def _is_web_page(url: str) -> bool:
    """Whether the gateway could lead there."""
    if len(url) > 500 or not url.isprintable() or " " in url:
        return False
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return False
    return parsed.protocol in ("http:", "https:") and bool(parsed.hostname) and not (parsed.username or parsed.password)


async def change_click_pages(session: AsyncSession, actor: Actor, wanted: ClickPages) -> bool:
    """Set the organisation's name and what its click pages say and do.

    Returns:
        Whether anything changed; the gateways have to be told then.

    Raises:
        Forbidden: The role does not allow it.
        Refused: Something is not acceptable.
    """
    actor.require(Permission.CONFIGURE)
    wanted = wanted.checked()
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    before = ClickPages.of(tenant)
    if before == wanted:
        return False
    gateway = dict(tenant.settings.get("gateway") or {})
    words = {field: getattr(wanted, field) for field in ("contact", "note", "accent", "block_url")}
    gateway["words"] = {**(gateway.get("words") or {}), **words}
    levels = {level: getattr(wanted, level) for level in LEVEL_CHOICES}
    gateway["levels"] = {**(gateway.get("levels") or {}), **levels}
    gateway["level_from"] = {"suspicious": wanted.suspicious_from, "malicious": wanted.malicious_from}
    gateway |= {"failure": wanted.failure, "keep_address": wanted.keep_address, "link_days": wanted.link_days}
    tenant.name = wanted.name
    tenant.settings = {**tenant.settings, "gateway": gateway}
    changed = {
        field: {"before": old, "after": getattr(wanted, field)}
        for field, old in asdict(before).items()
        if old != getattr(wanted, field)
    }
    await record(session, actor, "tenant.settings", wanted.name, changed)
    return True


async def change_logo(session: AsyncSession, actor: Actor, png: bytes) -> None:
    """Set or (with nothing) remove the logo that the gateway's pages show.

    Args:
        session: The unit of work.
        actor: Who asks.
        png: As made by ``app.console.logo``: it is shown to everybody who clicks.

    Raises:
        Forbidden: The role does not allow it.
        NotFound: The organisation is gone.
    """
    actor.require(Permission.CONFIGURE)
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    gateway = dict(tenant.settings.get("gateway") or {})
    text = base64.b64encode(png).decode()
    gateway["words"] = {**(gateway.get("words") or {}), "logo": text}
    tenant.settings = {**tenant.settings, "gateway": gateway}
    await record(session, actor, "logo.changed" if png else "logo.removed", tenant.name, {"bytes": len(png)})


def logo_of(tenant: Tenant) -> bytes:
    """The stored logo; empty where there is none."""
    words = (tenant.settings.get("gateway") or {}).get("words") or {}
    text = words.get("logo", "")
    return base64.b64decode(text) if isinstance(text, str) else b""


async def set_own_locale(session: AsyncSession, actor: Actor, locale: str) -> None:
    """The person's own language."""
    await session.execute(
        update(User).where(User.tenant_id == actor.tenant_id, User.id == actor.user_id).values(locale=locale)
    )


def person_actor(user: User) -> Actor:
    """The person as a party of the application."""
    role = Role(user.role)
    domains = tuple(map(str, user.domains)) if role is Role.DOMAIN_ADMIN else None
    return Actor(ActorKind.PERSON, user.tenant_id, role, user.id, user.email, domains)


def _name_from(who: SignedIn) -> str:
    # A first guess that the owner can change: the mail domain is the only name known at this point.
    return who.email.partition("@")[2] or who.external_tenant
