"""All settings, read from the environment (prefix ``POSTERN_``) and from ``.env``.

``.env.example`` is generated from this module (``postern settings``), so every description here is what an
operator reads.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.kit.errors import ConfigurationError

PLACEHOLDER_KEY = "change-me"
MIN_KEY_BYTES = 32


class Settings(BaseSettings):
    """Everything an operator can set. Nothing is required for the demo."""

    model_config = SettingsConfigDict(
        env_prefix="POSTERN_", env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    # -- where things are
    data_dir: Path = Field(
        Path(".postern"),
        description="Folder for the embedded database, the click spool, feed files and the generated master key.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL 14+ as the unprivileged application role, e.g. postgresql://postern_app@db/postern. "
        "Unset: an embedded PostgreSQL in the data directory.",
    )
    database_owner_url: SecretStr | None = Field(
        None, description="PostgreSQL as the role that owns the tables; used by `postern migrate` alone."
    )
    database_pool_size: int | None = Field(
        None,
        ge=2,
        le=200,
        description="Connections that each process works with. Unset: worker 5, scheduler 2, gateway 4, intake 6, "
        "console 8. A worker opens 4 more beside them, a gateway 2, a scheduler 1; PostgreSQL's max_connections must "
        "hold the sum over all processes (docs/admin/database.md).",
    )

    # -- keys
    master_key: SecretStr | None = Field(
        None,
        description="32 random bytes in base64: `openssl rand -base64 32`. All other keys derive from it. "
        "Unset with the embedded database: generated in the data directory.",
    )
    master_key_id: int = Field(1, ge=0, le=255, description="Number of the master key, carried by every link.")
    retired_master_keys: SecretStr | None = Field(
        None,
        description="Earlier keys that still open links, as `id:base64,id:base64`.",
    )

    # -- addresses
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the web roles (gateway, intake, console).")
    health_port_worker: int = Field(8081, ge=0, le=65535, description="Port of the worker's health endpoints.")
    health_port_scheduler: int = Field(8082, ge=0, le=65535, description="Port of the scheduler's health endpoints.")
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses of reverse proxies whose X-Forwarded-For is believed, comma-separated; * for all.",
    )
    gateway_url: str = Field("http://127.0.0.1:8080", description="Public address of the click gateway.")
    gateway_prefix: str = Field(
        "l", pattern=r"^[A-Za-z0-9_-]{1,16}$", description="First path segment of every rewritten link."
    )
    console_url: str = Field("http://127.0.0.1:8080", description="Public address of the console.")
    intake_url: str = Field(
        "http://127.0.0.1:8080", description="Public address at which providers deliver notifications."
    )

    # -- Microsoft 365
    microsoft_client_id: str = Field("", description="Application (client) id of the multi-tenant Entra app.")
    microsoft_client_secret: SecretStr | None = Field(
        None, description="Client secret; the last choice after workload identity and certificate."
    )
    microsoft_certificate_file: Path | None = Field(
        None, description="PEM file with certificate and private key of the Entra app."
    )
    microsoft_federated_token_file: Path | None = Field(
        None, description="Workload identity: file with the federated token."
    )
    microsoft_authority: str = Field(
        "https://login.microsoftonline.com", description="Entra ID; other clouds have their own."
    )
    microsoft_graph_url: str = Field("https://graph.microsoft.com/v1.0", description="Microsoft Graph.")
    microsoft_admin_url: str = Field("https://entra.microsoft.com", description="Entra admin centre, for remedies.")

    # -- Google Workspace
    google_service_account_file: Path | None = Field(
        None, description="Key file of the service account with domain-wide delegation."
    )
    google_service_account_email: str = Field(
        "", description="Keyless instead of a key file: the service account that IAM signs for."
    )
    google_service_account_id: str = Field(
        "", description="Numeric client id of that service account, as entered for domain-wide delegation."
    )
    google_client_id: str = Field("", description="OAuth client id for signing in with Google.")
    google_client_secret: SecretStr | None = Field(None, description="OAuth client secret for signing in with Google.")
    google_api_url: str = Field("", description="Base of the Google APIs; empty: Google's own hosts.")
    google_token_url: str = Field("https://oauth2.googleapis.com/token", description="Google's token endpoint.")
    google_issuer: str = Field("https://accounts.google.com", description="OpenID Connect issuer.")
    google_certs_url: str = Field(
        "https://www.googleapis.com/oauth2/v3/certs", description="Keys that sign Google's tokens."
    )
    google_admin_url: str = Field("https://admin.google.com", description="Admin console, for remedies.")
    google_pubsub_topic: str = Field("", description="projects/P/topics/T that Gmail publishes to.")
    google_pubsub_subscription: str = Field(
        "",
        description="projects/P/subscriptions/S: the only one whose pushed notifications are taken, "
        "or the one to fetch from.",
    )
    google_pubsub_pull: bool = Field(
        False,
        description="Fetch notifications instead of having them pushed, where no public endpoint is wanted; "
        "the intake role does it.",
    )
    google_push_service_account: str = Field(
        "", description="Service account whose signed token authenticates push deliveries."
    )
    google_push_audience: str = Field(
        "", description="Audience of the push subscription's token; empty: the address of the push endpoint."
    )
    google_removal: Literal["trash", "delete"] = Field(
        "trash", description="What happens to the original once the protected copy is verified."
    )

    google_units_per_minute: int = Field(
        6000, ge=600, description="Gmail quota units that one mailbox may use per minute."
    )

    # -- mail to administrators
    smtp_host: str = Field("", description="SMTP server for alerts to administrators; empty: none are mailed.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port: 587 for starttls, 465 for tls.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted; none is for a server on the same machine."
    )
    smtp_user: str = Field("", description="User for the login; empty: no login.")
    smtp_password: SecretStr | None = Field(None, description="Password of that user; never sent without TLS.")
    smtp_from: str = Field("", description="Sender of the alerts, e.g. postern@example.com.")
    smtp_ca_file: Path | None = Field(
        None, description="Certificates (PEM) to trust at that server in place of the system's."
    )

    # -- behaviour
    feed_file: Path | None = Field(
        None, description="Local list of known links: `<malicious|suspicious> TAB <host or URL>` per line."
    )
    source_networks: str = Field(
        "",
        description="Networks that servers of threat lists may be in although they are not public, "
        "e.g. `10.1.2.0/24` for a MISP of your own; comma-separated.",
    )
    source_max_mb: int = Field(1000, ge=1, description="Largest downloaded threat list, unpacked, in megabytes.")
    datacentre_networks: Path | None = Field(
        None,
        description="File of networks where programs run, one in CIDR notation per line: clicks from there are more "
        "likely to be automated.",
    )
    worker_concurrency: int = Field(8, ge=1, le=256, description="Jobs a worker runs at once.")
    poll_seconds: int = Field(
        300, ge=1, description="How often every mailbox is looked at without a notification, in seconds."
    )
    restore_days: int = Field(365, ge=1, description="How long undo records are kept, in days.")
    turn_days: int = Field(
        30, ge=1, description="How old mail may be that is looked through when a link turns out to be bad, in days."
    )
    incident_days: int = Field(
        365,
        ge=30,
        description="How long incidents that have ended are kept, and who received their links, in days; at least "
        "POSTERN_TURN_DAYS. Copies in quarantine are kept until they are released.",
    )
    service_review_days: int = Field(
        3,
        ge=0,
        le=30,
        description="For how many days after delivery links are asked about again, at growing intervals, at the "
        "services that judge single addresses (Safe Browsing, Web Risk, lists over DNS); 0: not at all.",
    )
    service_review_per_minute: int = Field(
        60,
        ge=1,
        description="How many questions that may take in a minute, for the whole installation; mind the quota of your "
        "keys and the terms of the services.",
    )
    check_pages: bool = Field(
        False,
        description="Whether the gateway looks at the page behind a link before it is opened: follows up to five "
        "redirects and looks for sign-in pages that imitate others. Sends requests to addresses from mail (never "
        "to private networks, never for links that work once).",
    )
    click_ingest_ms: int = Field(200, ge=20, description="How often spooled clicks are written to the database.")
    metrics_token: SecretStr | None = Field(
        None,
        description="Whoever presents it as `Authorization: Bearer` may read /metrics. Unset: the web roles have no "
        "/metrics; worker and scheduler, whose ports are private, have it without a token.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    emulators_port: int = Field(
        8090,
        ge=0,
        le=65535,
        description="Port of the emulated providers that `make run` starts for the demo.",
    )

    demo_deliver_seconds: float = Field(
        5.0, ge=0, description="Seconds between two mails of the demo; 0: only those of the start."
    )

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded one (the demo and single-machine default)."""
        return self.database_url is None

    @property
    def microsoft_configured(self) -> bool:
        """Whether Microsoft 365 tenants can be connected."""
        return bool(self.microsoft_client_id)

    @property
    def google_configured(self) -> bool:
        """Whether Google Workspace tenants can be connected."""
        return self.google_service_account_file is not None or bool(self.google_service_account_email)

    def master_keys(self) -> dict[int, bytes]:
        """Key id -> key; the current one first.

        With the embedded database and no key set, a random one is made in the data directory (mode 0600).

        Raises:
            ConfigurationError: A key is missing, the placeholder, no base64, or under 32 bytes.
        """
        current = self._generated_key() if self.master_key is None else self.master_key.get_secret_value()
        keys = {self.master_key_id: _parse_key("POSTERN_MASTER_KEY", current)}
        if self.retired_master_keys:
            for entry in self.retired_master_keys.get_secret_value().split(","):
                number, _, text = entry.strip().partition(":")
                if not number.isdigit() or int(number) > 255:
                    raise ConfigurationError(
                        "POSTERN_RETIRED_MASTER_KEYS wants id:base64 pairs with ids from 0 to 255."
                    )
                if int(number) in keys:
                    raise ConfigurationError(f"Master key id {number} is given twice.")
                keys[int(number)] = _parse_key("POSTERN_RETIRED_MASTER_KEYS", text)
        return keys

    def _generated_key(self) -> str:
        if not self.embedded:
            raise ConfigurationError(
                "POSTERN_MASTER_KEY is not set. Outside the embedded default it must be: every process needs "
                "the same one, and links cannot be opened without it. Make one with: openssl rand -base64 32"
            )
        path = self.data_dir / "master.key"
        if not path.exists():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".master.key.{os.getpid()}")
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(base64.b64encode(secrets.token_bytes(MIN_KEY_BYTES)).decode() + "\n")
            try:
                # A link fails where another process was first: its key stays, ours is dropped.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text().strip()


def _parse_key(name: str, text: str) -> bytes:
    text = text.strip()
    if text.lower().startswith(PLACEHOLDER_KEY):
        raise ConfigurationError(f"{name} still holds the placeholder. Make a key with: openssl rand -base64 32")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{name} is not base64. Make a key with: openssl rand -base64 32") from None
    if len(key) < MIN_KEY_BYTES or len(set(key)) < 8:
        raise ConfigurationError(
            f"{name} is too weak: {MIN_KEY_BYTES} random bytes are needed. Make one with: openssl rand -base64 32"
        )
    return key


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: A setting is not acceptable; names it. Its value is not repeated: it may be secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"POSTERN_{'_'.join(map(str, found['loc'])).upper()}: {found['msg']}"
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ConfigurationError(f"These settings cannot be used: {wrong}. Nothing was started.") from None
