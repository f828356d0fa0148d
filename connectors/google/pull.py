"""Gmail's notifications by pulling, where no public endpoint is wanted.

https://docs.cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions/pull. Our own service
account pulls (``roles/pubsub.subscriber``); no tenant's grant is involved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from connectors.base.errors import MisconfiguredClient, Throttled, Transient
from connectors.base.http import HttpPolicy, SharedHttp
from connectors.base.types import Hint, Provider
from connectors.google import sdk
from connectors.google.client import GoogleClient
from connectors.google.config import GoogleConfig
from connectors.google.notifications import read_message
from connectors.google.quotas import Pacer
from connectors.google.tokens import TokenSource

_BATCH = 100
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_EMPTY_WAIT = 1.0


class PubSubPuller:
    """Pulls hints and acknowledges them once they are stored. Implements
    :class:`connectors.base.protocol.NotificationPuller`.

    Args:
        config: Names the subscription.
        http: A client to share; it is then the caller's to close.
        sleep: Awaits that many seconds.

    Attributes:
        skipped: Messages that were no Gmail notification; acknowledged, or they would come for ever.
    """

    provider = Provider.GOOGLE

    def __init__(
        self,
        config: GoogleConfig,
        *,
        http: SharedHttp | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not config.pubsub_subscription:
            raise MisconfiguredClient("No Pub/Sub subscription is configured to pull from.")
        self.skipped = 0
        self._subscription = config.pubsub_subscription
        self._own_http = http is None
        # A pull is held open until something comes, for up to about 90 seconds.
        self._http = http or SharedHttp(HttpPolicy(read_timeout=120.0))
        self._sleep = sleep
        self._client = GoogleClient(
            config, "", "", self._http, TokenSource(config, self._http), Pacer(config.units_per_user_minute)
        )
        self._resource = sdk.pubsub_subscriptions(config.pubsub_base)

    async def batches(self) -> AsyncGenerator[list[Hint], None]:
        """Hints as they come, without end. A batch is acknowledged when the next one is asked for.

        A consumer that fails or is killed while it stores a batch gets it again. Failures of Google's are
        waited out; a wrong setting of ours is raised.

        Raises:
            ConnectorError: Nothing that passes by itself.
        """
        wait = _FIRST_WAIT
        while True:
            try:
                hints, tickets = await self.pull()
                wait = _FIRST_WAIT
                if hints:
                    yield hints
                if tickets:
                    await self.acknowledge(tickets)
                else:
                    # Pub/Sub may answer at once that there is nothing; it must not be asked in a circle.
                    await self._sleep(_EMPTY_WAIT)
            except Transient as error:
                await self._sleep(min(error.retry_after, _LONGEST_WAIT) if isinstance(error, Throttled) else wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    async def pull(self) -> tuple[list[Hint], list[str]]:
        """One pull: the hints, and the tickets to acknowledge everything that came with."""
        request = self._resource.pull(subscription=self._subscription, body={"maxMessages": _BATCH})
        answer = await self._client.pubsub(request, "pulling notifications")
        hints: dict[str, Hint] = {}
        tickets: list[str] = []
        for received in answer.get("receivedMessages") or ():
            tickets.append(str(received.get("ackId", "")))
            try:
                hint = read_message(received.get("message") or {})
            except ValueError:
                self.skipped += 1
                continue
            hints[hint.subscription_id] = hint
        return list(hints.values()), [ticket for ticket in tickets if ticket]

    async def acknowledge(self, tickets: list[str]) -> None:
        """Tell Pub/Sub that these need not come again; doing it twice does no harm."""
        request = self._resource.acknowledge(subscription=self._subscription, body={"ackIds": tickets})
        await self._client.pubsub(request, "acknowledging notifications")

    async def aclose(self) -> None:
        """Close connections."""
        if self._own_http:
            await self._http.aclose()
