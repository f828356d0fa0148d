"""What the application asks of the wiring: provider parts by name, without knowing any provider."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Protocol

from connectors.base.protocol import IdentityProvider, MailboxConnector, NotificationPuller, NotificationReader
from connectors.base.types import Provider


@dataclass(frozen=True, slots=True)
class TenantGrant:
    """What is needed to open a tenant's connector.

    Attributes:
        tenant_id: Ours.
        no: The number that link tokens carry.
        provider: Where its mail is.
        external_id: The provider's tenant id (Entra ``tid``; hosted domain).
        admin_address: The administrator who granted access (Directory subject at Google).
        organisation_id: The provider's own id of the organisation that the tenant is bound to; empty until it is.
    """

    tenant_id: uuid.UUID
    no: int
    provider: Provider
    external_id: str
    admin_address: str = ""
    organisation_id: str = ""


class Providers(Protocol):
    """Provider parts, made once per process by ``app.bootstrap``."""

    def configured(self) -> tuple[Provider, ...]:
        """Providers that this installation has credentials for."""

    def identity(self, provider: Provider) -> IdentityProvider:
        """Sign-in and consent."""

    def connector(self, grant: TenantGrant) -> MailboxConnector:
        """The tenant's connector; kept and shared within the process."""

    def notifications(self, provider: Provider) -> NotificationReader:
        """Reader of the provider's notifications."""

    def puller(self, provider: Provider) -> NotificationPuller | None:
        """A new fetcher of the provider's notifications, for the caller to close; None where they are pushed.

        Raises:
            ConfigurationError: Fetching is switched on, but nothing says where from.
        """

    def request_counts(self) -> dict[str, tuple[int, int, int, int]]:
        """Requests of this process since its start, by provider: sent, throttled, retried, failed."""

    async def aclose(self) -> None:
        """Close everything that was opened."""
