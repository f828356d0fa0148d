"""The wiring: the only place that names providers and puts the parts together for a role."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.kit.connections import pool_size
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.errors import ConfigurationError
from app.kit.postgres import DatabaseUrls, running_embedded, start_embedded
from app.protection.providers import TenantGrant
from app.protection.runtime import Runtime
from app.settings import Settings
from connectors import registry
from connectors.base.protocol import IdentityProvider, MailboxConnector, NotificationPuller, NotificationReader
from connectors.base.types import Provider

if TYPE_CHECKING:
    from connectors.base.http import SharedHttp


def keyring(settings: Settings) -> KeyRing:
    """The master keys.

    Raises:
        ConfigurationError: A key is missing, weak or the placeholder.
    """
    return KeyRing(settings.master_keys())


@asynccontextmanager
async def database_urls(settings: Settings) -> AsyncIterator[DatabaseUrls]:
    """Addresses of the database; joins or starts the embedded one where none is configured."""
    if settings.database_url is not None:
        app = settings.database_url.get_secret_value()
        owner = settings.database_owner_url.get_secret_value() if settings.database_owner_url else app
        yield DatabaseUrls(app=app, owner=owner)
        return
    running = running_embedded(settings.data_dir.resolve())
    if running is not None:
        yield running
        return
    server, urls = await asyncio.to_thread(start_embedded, settings.data_dir.resolve())
    try:
        yield urls
    finally:
        await asyncio.to_thread(server.cleanup)


class LoadedProviders:
    """Provider parts, made on first use and kept for the process (see ``app.protection.providers``)."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self._settings = settings
        self._keys = keys
        self._configs: dict[Provider, Any] = {}
        self._connectors: dict[TenantGrant, MailboxConnector] = {}
        self._identities: dict[Provider, IdentityProvider] = {}
        self._readers: dict[Provider, NotificationReader] = {}
        self._https: dict[Provider, SharedHttp] = {}

    def _http(self, provider: Provider) -> SharedHttp:
        """One HTTP client per provider: all tenants share its connections, each mailbox has its own gate."""
        # Imported where it is wanted: the gateway talks to no provider, and HTTP clients are a tenth of its memory.
        from connectors.base.http import SharedHttp

        return self._https.setdefault(provider, SharedHttp())

    def request_counts(self) -> dict[str, tuple[int, int, int, int]]:
        """Requests of this process since its start, by provider: sent, throttled, retried, failed."""
        counters = {provider.value: http.counters for provider, http in self._https.items()}
        return {name: (each.sent, each.throttled, each.retried, each.failed) for name, each in counters.items()}

    def configured(self) -> tuple[Provider, ...]:
        """Providers that this installation has credentials for."""
        found = []
        if self._settings.microsoft_configured:
            found.append(Provider.MICROSOFT)
        if self._settings.google_configured:
            found.append(Provider.GOOGLE)
        return tuple(found)

    def _config(self, provider: Provider) -> Any:
        if provider not in self._configs:
            make = _microsoft_config if provider is Provider.MICROSOFT else _google_config
            self._configs[provider] = make(self._settings)
        return self._configs[provider]

    def identity(self, provider: Provider) -> IdentityProvider:
        """Sign-in and consent."""
        if provider not in self._identities:
            made: IdentityProvider = registry.load(provider, "identity")(
                self._config(provider), http=self._http(provider)
            )
            self._identities[provider] = made
        return self._identities[provider]

    def connector(self, grant: TenantGrant) -> MailboxConnector:
        """The tenant's connector."""
        if grant not in self._connectors:
            current, *older = (
                self._keys.derive(number, "marker", grant.tenant_id.bytes) for number in self._keys.numbers
            )
            options: dict[str, Any] = {
                "marker_key": current,
                "older_marker_keys": tuple(older),
                "http": self._http(grant.provider),
            }
            if grant.provider is Provider.GOOGLE:
                options |= {"admin_address": grant.admin_address, "customer": grant.organisation_id}
            make = registry.load(grant.provider, "connector")
            self._connectors[grant] = make(self._config(grant.provider), grant.external_id, **options)
        return self._connectors[grant]

    def notifications(self, provider: Provider) -> NotificationReader:
        """Reader of the provider's notifications; Microsoft's needs no configuration."""
        if provider not in self._readers:
            make = registry.load(provider, "notifications")
            made: NotificationReader = (
                make() if provider is Provider.MICROSOFT else make(self._config(provider), http=self._http(provider))
            )
            self._readers[provider] = made
        return self._readers[provider]

    def puller(self, provider: Provider) -> NotificationPuller | None:
        """A new fetcher of notifications, where that is switched on; see the protocol."""
        if provider is not Provider.GOOGLE or not self._settings.google_pubsub_pull:
            return None
        if not self._settings.google_pubsub_subscription:
            raise ConfigurationError(
                "POSTERN_GOOGLE_PUBSUB_PULL is on, but no subscription to fetch from is named: "
                "set POSTERN_GOOGLE_PUBSUB_SUBSCRIPTION."
            )
        made: NotificationPuller = registry.load(provider, "pull")(self._config(provider))
        return made

    async def aclose(self) -> None:
        """Close everything that was opened."""
        for connector in self._connectors.values():
            await connector.aclose()
        for identity in self._identities.values():
            await identity.aclose()
        for http in self._https.values():
            await http.aclose()
        self._https.clear()
        self._connectors.clear()
        self._identities.clear()
        self._readers.clear()


def _microsoft_config(settings: Settings) -> Any:
    from connectors.microsoft.config import ClientCertificate, ClientSecret, FederatedTokenFile, MicrosoftConfig

    credential: Any
    if settings.microsoft_federated_token_file is not None:
        credential = FederatedTokenFile(str(settings.microsoft_federated_token_file))
    elif settings.microsoft_certificate_file is not None:
        credential = ClientCertificate(path=str(settings.microsoft_certificate_file))
    elif settings.microsoft_client_secret is not None:
        credential = ClientSecret(settings.microsoft_client_secret.get_secret_value())
    else:
        raise ConfigurationError(
            "POSTERN_MICROSOFT_CLIENT_ID is set, but no credential: set POSTERN_MICROSOFT_FEDERATED_TOKEN_FILE, "
            "POSTERN_MICROSOFT_CERTIFICATE_FILE or POSTERN_MICROSOFT_CLIENT_SECRET."
        )
    return MicrosoftConfig(
        client_id=settings.microsoft_client_id,
        credential=credential,
        authority=settings.microsoft_authority,
        graph_url=settings.microsoft_graph_url,
        admin_center_url=settings.microsoft_admin_url,
    )


def _google_config(settings: Settings) -> Any:
    from connectors.google.config import GoogleConfig, KeyFile, Keyless

    if settings.google_service_account_file is not None:
        account: Any = KeyFile.load(settings.google_service_account_file)
    else:
        account = Keyless(settings.google_service_account_email, settings.google_service_account_id)
    options: dict[str, Any] = {}
    if settings.google_api_url:
        base = settings.google_api_url.rstrip("/") + "/"
        options = {"gmail_base": base, "admin_base": base, "pubsub_base": base + "pubsub/"}
    return GoogleConfig(
        service_account=account,
        oidc_client_id=settings.google_client_id,
        oidc_client_secret=(settings.google_client_secret.get_secret_value() if settings.google_client_secret else ""),
        pubsub_topic=settings.google_pubsub_topic,
        pubsub_subscription=settings.google_pubsub_subscription,
        push_audience=settings.google_push_audience or f"{settings.intake_url.rstrip('/')}/hooks/google",
        push_service_account=settings.google_push_service_account,
        removal=settings.google_removal,
        units_per_user_minute=settings.google_units_per_minute,
        token_uri=settings.google_token_url,
        oidc_issuer=settings.google_issuer,
        certs_url=settings.google_certs_url,
        admin_console=settings.google_admin_url.rstrip("/"),
        **options,
    )


@asynccontextmanager
async def open_runtime(
    settings: Settings, urls: DatabaseUrls, stopping: asyncio.Event | None = None, role: str = "console"
) -> AsyncIterator[Runtime]:
    """Open what the roles work with, and close it again.

    Args:
        settings: The process's settings.
        urls: Addresses of the database.
        stopping: Set when the process is asked to stop.
        role: Whose share of the database's connections.

    Raises:
        ConfigurationError: A key is weak, or the database role is above row-level security.
    """
    keys = keyring(settings)
    database = Database(urls.app, pool_size(role, settings.database_pool_size))
    providers = LoadedProviders(settings, keys)
    try:
        await database.check_role()
        yield Runtime(
            settings=settings,
            db=database,
            keyring=keys,
            providers=providers,
            stopping=stopping or asyncio.Event(),
        )
    finally:
        await providers.aclose()
        await database.close()


def fingerprint(keys: KeyRing) -> str:
    """A short name of the current master key, for comparing two processes without showing it."""
    return hashlib.sha256(keys.derive(keys.current, "fingerprint")).hexdigest()[:12]
