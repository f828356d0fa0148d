"""The kinds of sources: what each is, under which terms, and which class speaks its protocol.

A class is imported when a source of its kind is used, never before: the gateway does not load what reads lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast

from app.kit.errors import Refused
from app.verdicts.sources.types import Kind, ListSource, SignalSource, SourceConfig


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name."""
    from app.verdicts.sources import catalogue, catalogue_services

    found: dict[str, Kind] = {}
    for kind in (*catalogue.KINDS, *catalogue_services.KINDS):
        if kind.name in found:
            raise ValueError(f"There are two kinds called {kind.name}.")
        found[kind.name] = kind
    return MappingProxyType(found)


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        Refused: There is none.
    """
    found = kinds().get(name)
    if found is None:
        raise Refused(
            f"There is no kind of source called {name}; there are {', '.join(sorted(kinds()))}. Nothing was changed.",
            "source_kind",
        )
    return found


def _load(kind: Kind) -> Any:
    module, _, name = kind.target.partition(":")
    return getattr(import_module(module), name)


def make_list_source(config: SourceConfig, secret: str) -> ListSource:
    """The list source of a configuration.

    Args:
        config: Of a kind of the family ``list``.
        secret: Its key, from :func:`app.verdicts.sources.keys.read_secret`.

    Raises:
        Refused: The kind is not known or no list.
    """
    kind = kind_of(config.kind)
    if kind.family != "list":
        raise Refused(f"{config.name} is asked about single addresses; it has no list.", "source_kind")
    return cast(ListSource, _load(kind)(config, secret))


def make_signal_source(config: SourceConfig, secret: str) -> SignalSource:
    """The signal source of a configuration.

    Args:
        config: Of a kind of the family ``signal``.
        secret: Its key.

    Raises:
        Refused: The kind is not known or a list.
    """
    kind = kind_of(config.kind)
    if kind.family != "signal":
        raise Refused(f"{config.name} is a list; it is downloaded, not asked.", "source_kind")
    return cast(SignalSource, _load(kind)(config, secret))
