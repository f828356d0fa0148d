"""What is done with each link of a message at delivery, from the tenant's policy."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import tenant_of
from app.kit.errors import NotFound
from app.messages.options import DeliveryOptions
from app.messages.transform import unsubscribe_in
from app.messages.types import FoundLink, OpenedLink, TransformPlan
from app.policy.engine import Action, PolicyContext, PolicySnapshot, Stage
from app.settings import Settings
from app.tenants.actor import Actor, Permission
from app.tenants.models import Tenant


def make_plan(
    settings: Settings,
    policy: PolicySnapshot,
    options: DeliveryOptions,
    mint: Callable[[FoundLink], str],
    open_link: Callable[[str], OpenedLink | None],
    list_unsubscribe: str = "",
) -> TransformPlan:
    """The transformer's plan for one message.

    Args:
        settings: For the gateway's address.
        policy: The tenant's lists and own domains.
        options: How the tenant wants links treated.
        mint: Makes links for this message.
        open_link: Opens links of this tenant.
        list_unsubscribe: The List-Unsubscribe header, where the message's content is a body without its headers: its
            targets are neither redacted nor blocked (L16).
    """

    def ignored(link: FoundLink) -> bool:
        urls = (link.url,) if link.inner_url is None else (link.url, link.inner_url)
        return policy.decide(PolicyContext(stage=Stage.DELIVERY, urls=urls)).action is Action.IGNORE

    return options.plan(
        settings.gateway_url,
        mint,
        open_link,
        ignored=ignored,
        own_domains=tuple(sorted(policy.own_domains)),
        unsubscribe=tuple(sorted(unsubscribe_in(list_unsubscribe.encode("utf-8", "surrogatepass")))),
    )


async def load_options(session: AsyncSession) -> DeliveryOptions:
    """The tenant's options, from ``tenants.settings["delivery"]``.

    Raises:
        OptionError: What is stored is not acceptable; it was checked when it was stored.
    """
    tenant = await session.get(Tenant, tenant_of(session))
    stored = tenant.settings.get("delivery") if tenant is not None else None
    return DeliveryOptions.parse(stored or {})


async def change_options(session: AsyncSession, actor: Actor, wanted: DeliveryOptions) -> bool:
    """Set how links are treated in mail that is protected from now on.

    Returns:
        Whether anything changed.

    Raises:
        Forbidden: The role may not configure.
        NotFound: The organisation is gone.
    """
    actor.require(Permission.CONFIGURE)
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    before, after = tenant.settings.get("delivery") or {}, wanted.as_json()
    if before == after:
        return False
    tenant.settings = {**tenant.settings, "delivery": after}
    await record(session, actor, "delivery.changed", tenant.name, {"before": before, "after": after})
    return True
