"""The networks that an operator's own servers may be in."""

from __future__ import annotations

import ipaddress

from app.kit.addresses import Network
from app.kit.errors import ConfigurationError
from app.settings import Settings


def source_networks(settings: Settings) -> tuple[Network, ...]:
    """Networks of ``POSTERN_SOURCE_NETWORKS``.

    Raises:
        ConfigurationError: One is none.
    """
    found: list[Network] = []
    for text in settings.source_networks.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            raise ConfigurationError(f"POSTERN_SOURCE_NETWORKS: {text} is not a network such as 10.1.2.0/24.") from None
    return tuple(found)
