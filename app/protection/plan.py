"""What is done with each link of a message at delivery, from the tenant's policy."""

from __future__ import annotations

from collections.abc import Callable

from app.messages.types import FoundLink, LinkAction, OpenedLink, TransformPlan
from app.policy.engine import Action, PolicyContext, PolicySnapshot, Stage
from app.settings import Settings


def make_plan(
    settings: Settings,
    policy: PolicySnapshot,
    mint: Callable[[FoundLink], str],
    open_link: Callable[[str], OpenedLink | None],
) -> TransformPlan:
    """The transformer's plan for one message.

    Args:
        settings: For the gateway's address.
        policy: The tenant's lists and own domains.
        mint: Makes links for this message.
        open_link: Opens links of this tenant.
    """

    def decide(link: FoundLink) -> LinkAction:
        urls = (link.url,) if link.inner_url is None else (link.url, link.inner_url)
        decision = policy.decide(PolicyContext(stage=Stage.DELIVERY, urls=urls))
        return LinkAction.LEAVE if decision.action is Action.IGNORE else LinkAction.REWRITE

    return TransformPlan(
        gateway=settings.gateway_url.rstrip("/"),
        mint=mint,
        decide=decide,
        open_link=open_link,
        own_domains=tuple(sorted(policy.own_domains)),
    )
