"""What an operator would set up at both providers before anyone can sign in, written to a file for the client.

At Microsoft: an application registration. At Google: a project with a service account and its key, an OAuth
client for sign-in, a Pub/Sub topic that Gmail may publish to, and a push subscription with a signed token
(https://developers.google.com/workspace/gmail/api/guides/push, https://cloud.google.com/pubsub/docs/push).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from connectors.emulators.world import World

PROJECT = "postern-demo"
SERVICE_ACCOUNT = f"postern@{PROJECT}.iam.gserviceaccount.com"
PUSH_ACCOUNT = f"pubsub-push@{PROJECT}.iam.gserviceaccount.com"
TOPIC = f"projects/{PROJECT}/topics/gmail"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/postern"


def write_credentials(world: World, path: Path, push_endpoint: str, redirect_uris: tuple[str, ...]) -> dict[str, Any]:
    """Set up what is missing and write it to ``path`` (mode 0600); what an earlier start wrote is kept.

    Args:
        world: The emulated providers; its base address must be set.
        path: JSON file with ``microsoft`` and ``google``.
        push_endpoint: Where Pub/Sub delivers; also the audience of its tokens.
        redirect_uris: Where sign-in comes back to.

    Returns:
        What the file holds.
    """
    google = world.google
    known = _read(path)
    if known is None or SERVICE_ACCOUNT not in google.accounts.service_accounts:
        key = google.create_service_account(SERVICE_ACCOUNT)
        client = google.create_oauth_client(redirect_uris)
        oauth = {"client_id": client.client_id, "client_secret": client.secret}
    else:
        key, oauth = known["google"]["service_account"], known["google"]["oauth_client"]
        google.accounts.oauth_clients[oauth["client_id"]].redirect_uris = list(redirect_uris)
    google.create_topic(TOPIC)
    google.create_subscription(
        SUBSCRIPTION,
        TOPIC,
        push_endpoint=push_endpoint,
        audience=push_endpoint,
        service_account_email=PUSH_ACCOUNT,
    )
    credentials = {
        "microsoft": {
            "client_id": world.options.microsoft_client_id,
            "client_secret": world.client_secret,
            "authority": f"{world.base_url}/entra",
            "graph_url": f"{world.base_url}/graph/v1.0",
        },
        "google": {
            "service_account": key,
            "oauth_client": oauth,
            "api_url": f"{world.base_url}/google",
            "token_url": f"{world.base_url}/google/token",
            "issuer": google.issuer,
            "certs_url": f"{world.base_url}/google/oauth2/v3/certs",
            "admin_url": f"{world.base_url}/google/admin",
            "topic": TOPIC,
            "subscription": SUBSCRIPTION,
            "push_service_account": PUSH_ACCOUNT,
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(credentials, file, indent=1)
    draft.replace(path)
    return credentials


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found if isinstance(found, dict) else None
