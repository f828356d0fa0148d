"""How this installation presents itself to Microsoft: one application registration for all tenants."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A client secret: the last choice, since it can be copied and expires unnoticed."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with its private key in PEM form; give either the path or the bytes.

    Attributes:
        path: File with the certificate and its key.
        pem: The same as bytes.
        password: Of the private key, if it is encrypted.
    """

    path: str = ""
    pem: bytes = field(default=b"", repr=False)
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.pem):
            raise ValueError("Give either the certificate's path or its bytes, not both and not neither.")

    def read(self) -> bytes:
        """The PEM bytes, read from the file now so that a renewed certificate is picked up.

        Raises:
            OSError: The file cannot be read.
        """
        if self.pem:
            return self.pem
        with open(self.path, "rb") as file:
            return file.read()


@dataclass(frozen=True, slots=True)
class FederatedTokenFile:
    """Workload identity: a file that the platform keeps filled with a short-lived token.

    Attributes:
        path: e.g. the value of ``AZURE_FEDERATED_TOKEN_FILE``.
    """

    path: str


Credential = ClientSecret | ClientCertificate | FederatedTokenFile


@dataclass(frozen=True, slots=True)
class MicrosoftConfig:
    """Addresses and the credential of our application registration.

    Attributes:
        client_id: The application (client) id.
        credential: In order of preference: federated token, certificate, secret.
        authority: Sign-in service, without a tenant; another one for a national cloud.
        graph_url: Microsoft Graph with its version.
        admin_center_url: Microsoft Entra admin centre, where permissions are granted.
        graph_scope: What a token is asked for. Derived from ``graph_url`` where that is a Microsoft host.
        consent_permissions: Application permissions that the tenant is asked for.

    Raises:
        ValueError: An address is neither https nor on loopback, or the client id is empty.
    """

    client_id: str
    credential: Credential = field(repr=False)
    authority: str = "https://login.microsoftonline.com"
    graph_url: str = "https://graph.microsoft.com/v1.0"
    admin_center_url: str = "https://entra.microsoft.com"
    graph_scope: str = ""
    consent_permissions: tuple[str, ...] = (
        "Mail-Advanced.ReadWrite.All",
        "Mail.ReadWrite",
        "User.Read.All",
    )

    def __post_init__(self) -> None:
        if not self.client_id:
            raise ValueError("The Microsoft application (client) id is empty.")
        for name in ("authority", "graph_url", "admin_center_url"):
            value = getattr(self, name).rstrip("/")
            object.__setattr__(self, name, value)
            parts = urlsplit(value)
            if not parts.hostname or parts.username or parts.query or parts.fragment:
                raise ValueError(f"{name} is not a plain address: {value!r}")
            if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
                raise ValueError(f"{name} must use https (http only on loopback): {value!r}")
        if not self.graph_scope:
            host = urlsplit(self.graph_url).hostname or ""
            resource = "graph.microsoft.com" if host in LOOPBACK_HOSTS else host
            object.__setattr__(self, "graph_scope", f"https://{resource}/.default")
