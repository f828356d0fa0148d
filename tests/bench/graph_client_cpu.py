"""CPU per call to Graph: our client, plain httpx, and the SDK's own way of sending.

Run with ``python -m tests.bench.graph_client_cpu [CALLS]``. It reads and writes one message of 20 KB in the emulator on
loopback and counts the CPU time of the calling thread only; the emulator runs in another.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.base.types import BodyContent, MessageRef, ReplaceState
from connectors.emulators.testing import Emulators, running_emulators
from connectors.microsoft.client import PREFER
from connectors.microsoft.fetch import message_request
from tests.contract.connectors.harness import OLD_LINK, mail, protect, restore
from tests.contract.connectors.harness_microsoft import MicrosoftHarness

WARM_UP = 20


async def measure(name: str, calls: int, work: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds of CPU per call."""
    for _ in range(WARM_UP):
        await work()
    started = time.thread_time()
    for _ in range(calls):
        await work()
    spent = (time.thread_time() - started) / calls * 1_000
    print(f"{name:<58}{spent:6.2f} ms")
    return spent


async def record(_: ReplaceState) -> None:
    """A journal that costs nothing."""


async def compare(emulators: Emulators, calls: int) -> None:
    """All figures, one line each."""
    harness = MicrosoftHarness(emulators, 1)
    connector = harness.connector
    client = connector._client
    ref = harness.deliver(harness.ada, mail().replace(b"Hello Ada, <a", b"<!-- " + b"x" * 70 + b" -->\n" * 270 + b"<a"))
    url = f"{emulators.graph_url}/users/{harness.ada.id}/messages/{ref.id}"
    async with httpx.AsyncClient() as plain:
        headers = {"authorization": f"Bearer {await client.token()}", "prefer": PREFER}

        async def plain_get() -> None:
            (await plain.get(url, headers=headers)).json()

        await measure("GET a message: plain httpx, json", calls, plain_get)
    await measure("GET a message: this client", calls, lambda: get(connector, ref))
    await sdk_way(emulators, harness, ref, calls)
    await measure("  of that, building the request with the SDK", calls, lambda: build(connector, ref))
    await measure("fetch(): read and told apart", calls, lambda: connector.fetch(ref))
    await protect_and_restore(harness, ref, calls)
    page = await connector.changes(harness.ada, None, datetime.now(UTC) - timedelta(hours=1))

    async def changes() -> None:
        harness.deliver(harness.ada, mail())
        await connector.changes(harness.ada, page.cursor, datetime.now(UTC))

    await measure("changes(): one new message (with its delivery)", min(calls, 30), changes)
    await harness.aclose()


async def get(connector: Any, ref: MessageRef) -> None:
    """One GET through our client."""
    info = message_request(connector._client, ref.mailbox.id, ref.id)
    await connector._client.exchange(info, mailbox=ref.mailbox.id, read=True, what="measuring")


async def build(connector: Any, ref: MessageRef) -> None:
    """The SDK's part of it."""
    assert message_request(connector._client, ref.mailbox.id, ref.id).path


async def sdk_way(emulators: Emulators, harness: MicrosoftHarness, ref: MessageRef, calls: int) -> None:
    """The SDK sends and deserialises, with its middleware."""
    from azure.core.credentials import AccessToken
    from msgraph import GraphRequestAdapter, GraphServiceClient
    from msgraph_core import GraphClientFactory

    token = await harness.connector._client.token()

    class Fixed:
        async def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(token, int(time.time()) + 3_000)

    from kiota_authentication_azure.azure_identity_authentication_provider import (
        AzureIdentityAuthenticationProvider,
    )

    provider = AzureIdentityAuthenticationProvider(Fixed(), scopes=["x"], allowed_hosts=["127.0.0.1"])
    async with GraphClientFactory.create_with_default_middleware() as sending:
        adapter = GraphRequestAdapter(provider, client=sending)
        adapter.base_url = emulators.graph_url
        item = GraphServiceClient(request_adapter=adapter).users.by_user_id(ref.mailbox.id)
        await measure("GET a message: the SDK sends and deserialises", calls, item.messages.by_message_id(ref.id).get)


async def protect_and_restore(harness: MicrosoftHarness, ref: MessageRef, calls: int) -> None:
    """replace(): PATCH, read back, verify; alternately there and back."""
    connector, state = harness.connector, {"protected": False}

    async def turn() -> None:
        message = await connector.fetch(ref)
        assert isinstance(message.content, BodyContent)
        there = OLD_LINK.split("?")[0] in message.content.content
        change = protect(harness, message) if there else restore(harness, message)
        await connector.replace(change, "key", record)
        state["protected"] = there

    await measure("fetch() and replace(): three requests, verified", calls, turn)


def main() -> None:
    """Run and print."""
    warnings.simplefilter("ignore")
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(json.dumps({"calls": calls, "python": sys.version.split()[0]}))
    with running_emulators(seed=1) as emulators:
        asyncio.run(compare(emulators, calls))


if __name__ == "__main__":
    main()
