"""What the service's operator sets up once in a Google Cloud project, done for the demo.

A service account with a key, an OAuth client for sign-in, the topic that Gmail publishes to and the
subscription that pushes from it ("Create and manage push notifications",
https://developers.google.com/workspace/gmail/api/guides/push). Domain-wide delegation is not set up here: that
is what the tenant's administrator does in the Admin console.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectors.emulators.world import World

PROJECT = "postern-demo"
SERVICE_ACCOUNT = f"postern@{PROJECT}.iam.gserviceaccount.com"
PUSH_ACCOUNT = f"gmail-push@{PROJECT}.iam.gserviceaccount.com"
TOPIC = f"projects/{PROJECT}/topics/gmail"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/postern"


@dataclass(frozen=True, slots=True)
class GoogleSetup:
    """Credentials and names of the Cloud project."""

    service_account: dict[str, str]
    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return f"GoogleSetup(client_id={self.client_id!r})"

    def as_json(self, base_url: str, issuer: str) -> dict[str, object]:
        """For the credentials file.

        Args:
            base_url: Of the emulators.
        """
        google = f"{base_url}/google"
        return {
            "service_account": self.service_account,
            "oauth_client": {"client_id": self.client_id, "client_secret": self.client_secret},
            "api_url": google,
            "token_url": f"{google}/token",
            "issuer": issuer,
            "certs_url": f"{google}/oauth2/v3/certs",
            "admin_url": f"{google}/admin/",
            "topic": TOPIC,
            "subscription": SUBSCRIPTION,
            "push_service_account": PUSH_ACCOUNT,
        }


def set_up_google(
    world: World, redirect_uris: Sequence[str], push_endpoint: str | None = None, push_audience: str | None = None
) -> GoogleSetup:
    """Make what is missing and follow the addresses given; safe to call at every start."""
    state = world.google
    known = world.recall("google_setup") or {}
    key = known.get("service_account") or state.create_service_account(SERVICE_ACCOUNT)
    # Addresses inside the key file follow the port.
    key = {**key, "token_uri": f"{world.base_url}/google/token"}
    client = state.accounts.oauth_clients.get(known.get("client_id", ""))
    if client is None:
        client = state.create_oauth_client(redirect_uris)
    else:
        client.redirect_uris = list(redirect_uris) or client.redirect_uris
    if PUSH_ACCOUNT not in state.accounts.service_accounts:
        state.create_service_account(PUSH_ACCOUNT)
    state.create_topic(TOPIC)
    existing = state.pubsub.subscriptions.get(SUBSCRIPTION)
    if existing is None:
        state.create_subscription(
            SUBSCRIPTION,
            TOPIC,
            push_endpoint=push_endpoint,
            audience=push_audience,
            service_account_email=PUSH_ACCOUNT if push_endpoint else None,
        )
    elif push_endpoint is not None:
        token = {"serviceAccountEmail": PUSH_ACCOUNT, "audience": push_audience or push_endpoint}
        existing.fields["pushConfig"] = {"pushEndpoint": push_endpoint, "oidcToken": token}
    world.remember("google_setup", {"service_account": key, "client_id": client.client_id})
    return GoogleSetup(key, client.client_id, client.secret)
