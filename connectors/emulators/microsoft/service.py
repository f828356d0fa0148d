"""Puts the Microsoft side together: Graph, Entra ID, subscriptions and the viewer's interface."""

from __future__ import annotations

from starlette.types import ASGIApp

from connectors.emulators.common.notify import Notifier
from connectors.emulators.microsoft import (
    graph_attachments,
    graph_create,
    graph_directory,
    graph_folders,
    graph_messages,
    graph_send,
)
from connectors.emulators.microsoft.entra import Entra
from connectors.emulators.microsoft.graph import Graph
from connectors.emulators.microsoft.graph_subscriptions import Subscriptions
from connectors.emulators.microsoft.state import MicrosoftState
from connectors.emulators.microsoft.tokens import Tokens


class MicrosoftService:
    """All of Microsoft over one state.

    Attributes:
        entra: The authority, for ``/entra``.
        graph_app: Graph, for ``/graph/v1.0``.
    """

    def __init__(self, state: MicrosoftState, notifier: Notifier) -> None:
        self.state = state
        self.tokens = Tokens(state)
        self.subscriptions = Subscriptions(state, notifier)
        self.entra = Entra(state, self.tokens)
        self._graph = Graph(state, self.tokens)
        for module in (graph_folders, graph_messages, graph_create, graph_send, graph_attachments, graph_directory):
            module.add_routes(self._graph)
        self.subscriptions.add_routes(self._graph)
        self.graph_app: ASGIApp = self._graph.app()
        self.entra_app: ASGIApp = self.entra.app()

    def set_base(self, base: str) -> None:
        """Where the server is reached, e.g. ``http://127.0.0.1:8090``; known once it listens."""
        self.entra.set_base(f"{base}/entra")
        self._graph.base = f"{base}/graph/v1.0"
