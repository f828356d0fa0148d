"""Settings of the Google connector: our own credentials and Google's addresses. No tenant's data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SCOPE_MODIFY = "https://www.googleapis.com/auth/gmail.modify"
"""Read, watch, insert, relabel and trash: everything but permanent deletion."""
SCOPE_FULL = "https://mail.google.com/"
"""The one scope that allows ``messages.delete``."""
SCOPE_USERS = "https://www.googleapis.com/auth/admin.directory.user.readonly"
SCOPE_GROUPS = "https://www.googleapis.com/auth/admin.directory.group.readonly"
"""Asked for only where mailboxes are chosen by group: ``groups.get`` and ``members.list``."""
SCOPE_PUBSUB = "https://www.googleapis.com/auth/pubsub"

Removal = Literal["trash", "delete"]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A service account with a private key of its own.

    Attributes:
        info: The key file's JSON object (``client_email``, ``client_id``, ``private_key`` ...).
    """

    info: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        missing = [name for name in ("client_email", "client_id", "private_key") if not self.info.get(name)]
        if missing:
            raise ValueError(f"The service account key lacks {', '.join(missing)}.")

    @classmethod
    def load(cls, path: str | Path) -> KeyFile:
        """Read a key file as downloaded from the Cloud console.

        Raises:
            ValueError: Not such a file.
            OSError: It cannot be read.
        """
        try:
            info = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError("The service account key file is not JSON.") from error
        if not isinstance(info, dict):
            raise ValueError("The service account key file is not a JSON object.")
        return cls(info)

    @property
    def email(self) -> str:
        """The service account's address."""
        return str(self.info["client_email"])

    @property
    def client_id(self) -> str:
        """The numeric id that an administrator enters for domain-wide delegation."""
        return str(self.info["client_id"])


@dataclass(frozen=True, slots=True)
class Keyless:
    """A service account whose key never leaves Google: IAM signs for the identity we run as.

    The identity is found by Application Default Credentials (attached service account, workload identity
    federation) and needs ``roles/iam.serviceAccountTokenCreator`` on the account. See "Delegate domain-wide
    authority without a key", https://cloud.google.com/iam/docs/best-practices-for-managing-service-account-keys
    and https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob.

    Attributes:
        email: The service account that the tenants delegate to.
        client_id: Its numeric id.
        impersonate: A service account to become first, where the identity may not sign for ``email``
            itself; empty for none.
        iam_base: Where the IAM Credentials API is, for a private endpoint; ends in ``/``.
        source: google-auth credentials to use instead of the default ones.
    """

    email: str
    client_id: str
    impersonate: str = ""
    iam_base: str = "https://iamcredentials.googleapis.com/"
    source: Any = field(default=None, repr=False)


ServiceAccount = KeyFile | Keyless


@dataclass(frozen=True, slots=True)
class GoogleConfig:
    """Everything the Google connector, sign-in and notifications need to know.

    Attributes:
        service_account: Who acts in the tenants' mailboxes.
        oidc_client_id: OAuth client for sign-in (a web application, not the service account).
        oidc_client_secret: Its secret.
        pubsub_topic: ``projects/P/topics/T``; Gmail's own service account may publish to it.
        pubsub_subscription: ``projects/P/subscriptions/S``; notifications that name another are refused.
        push_audience: The audience set on the push subscription.
        push_service_account: The service account whose token accompanies a push.
        removal: What happens to an original once its copy is verified: ``trash`` it, or ``delete`` it for
            good, which needs the scope ``https://mail.google.com/``.
        units_per_user_minute: Gmail quota units a mailbox may use per minute.
        gmail_base: Gmail API; ends in ``/``.
        admin_base: Admin SDK (Directory); ends in ``/``.
        pubsub_base: Pub/Sub API; ends in ``/``.
        token_uri: OAuth token endpoint for service accounts.
        oidc_issuer: Issuer of sign-in and push tokens.
        oidc_discovery: Address of the discovery document; empty: the issuer's well-known one.
        certs_url: Google's public keys as JWKs.
        admin_console: The Admin console, without a trailing ``/``.
    """

    service_account: ServiceAccount
    oidc_client_id: str = ""
    oidc_client_secret: str = field(default="", repr=False)
    pubsub_topic: str = ""
    pubsub_subscription: str = ""
    push_audience: str = ""
    push_service_account: str = ""
    removal: Removal = "trash"
    units_per_user_minute: int = 6_000
    gmail_base: str = "https://gmail.googleapis.com/"
    admin_base: str = "https://admin.googleapis.com/"
    pubsub_base: str = "https://pubsub.googleapis.com/"
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a secret
    oidc_issuer: str = "https://accounts.google.com"
    oidc_discovery: str = ""
    certs_url: str = "https://www.googleapis.com/oauth2/v3/certs"
    admin_console: str = "https://admin.google.com"

    def __post_init__(self) -> None:
        for name in ("gmail_base", "admin_base", "pubsub_base"):
            if not getattr(self, name).endswith("/"):
                object.__setattr__(self, name, getattr(self, name) + "/")
        for name, kind in (("pubsub_topic", "topics"), ("pubsub_subscription", "subscriptions")):
            value = getattr(self, name)
            if value and not re.fullmatch(rf"projects/[^/\s]+/{kind}/[^/\s]+", value):
                raise ValueError(f"{name} must look like projects/PROJECT/{kind}/NAME, not {value!r}.")
        if self.removal not in ("trash", "delete"):
            raise ValueError(f"removal must be trash or delete, not {self.removal!r}.")

    @property
    def mail_scopes(self) -> tuple[str, ...]:
        """The narrowest scope that covers the chosen removal."""
        return (SCOPE_FULL,) if self.removal == "delete" else (SCOPE_MODIFY,)

    @property
    def scopes(self) -> tuple[str, ...]:
        """All scopes a tenant grants. One that is not listed there fails a whole token request."""
        return (*self.mail_scopes, SCOPE_USERS)

    @property
    def discovery_url(self) -> str:
        """Where the OpenID Provider Metadata is (OpenID Connect Discovery 1.0, section 4)."""
        return self.oidc_discovery or self.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration"
