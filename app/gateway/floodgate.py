"""Counts what comes to the gateway, and says what is too much."""

from __future__ import annotations

from app.gateway.deps import GatewayStats
from app.gateway.limits import Counter, Limits, address_key


class Floodgate:
    """The limits of one process; see :class:`app.gateway.limits.Limits`. Every question counts one.

    Args:
        limits: What is too much.
        stats: Where tenants that are flooded are counted.
    """

    def __init__(self, limits: Limits, stats: GatewayStats) -> None:
        window = limits.window_seconds
        self._limits, self._stats = limits, stats
        self._per_token, self._per_address, self._per_tenant = Counter(window), Counter(window), Counter(window)
        self._broken, self._forms = Counter(window), Counter(60 * window)

    def lets_address(self, address: str) -> bool:
        """Whether a network address may ask once more."""
        return self._per_address.add(address_key(address), self._limits.per_address)

    def lets_broken(self, address: str) -> bool:
        """Whether a network address may come with one more link that does not open."""
        return self._broken.add(address_key(address), self._limits.broken_per_address)

    def lets_link(self, tenant_no: int, link: str) -> bool:
        """Whether a tenant's links, and this one, may be asked for once more."""
        if not self._per_tenant.add(str(tenant_no), self._limits.per_tenant):
            self._stats.limited_tenant += 1
            return False
        return self._per_token.add(link, self._limits.per_token)

    def lets_form(self, link: str) -> bool:
        """Whether one more button may be pressed on the pages of a link."""
        return self._forms.add(link, self._limits.forms_per_token)
