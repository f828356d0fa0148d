"""Provider -> where its classes are; imported on first use, since the SDKs are large."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from connectors.base.types import Provider

_PLACES = {
    Provider.MICROSOFT: {
        "connector": "connectors.microsoft.connector:MicrosoftConnector",
        "identity": "connectors.microsoft.identity:MicrosoftIdentity",
        "notifications": "connectors.microsoft.notifications:MicrosoftNotifications",
    },
    Provider.GOOGLE: {
        "connector": "connectors.google.connector:GoogleConnector",
        "identity": "connectors.google.identity:GoogleIdentity",
        "notifications": "connectors.google.notifications:GoogleNotifications",
        "pull": "connectors.google.pull:PubSubPuller",
    },
}


def load(provider: Provider, part: str) -> Any:
    """The class of one part (``connector``, ``identity``, ``notifications``, ``pull``) of a provider.

    Raises:
        KeyError: No such part.
    """
    module, _, name = _PLACES[provider][part].partition(":")
    return getattr(import_module(module), name)
