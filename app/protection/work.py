"""What is needed to work on one mailbox, and which errors end that work."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from app.messages.options import DeliveryOptions
from app.policy.engine import PolicySnapshot
from app.protection.providers import TenantGrant
from connectors.base.errors import (
    AccessRevoked,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
    Transient,
)
from connectors.base.protocol import MailboxConnector
from connectors.base.types import Mailbox, ReplaceMode

STOPS_THE_MAILBOX = (Transient, AccessRevoked, PermissionMissing, MailboxUnavailable, MisconfiguredClient)
"""Errors that say nothing about the message: it keeps its state, and the cursor stays before it."""


@dataclass(frozen=True, slots=True)
class MailboxWork:
    """What is needed to work on one mailbox of one tenant.

    Attributes:
        grant: The tenant.
        mailbox: As connectors know it.
        mailbox_id: As the database knows it.
        connector: The tenant's connector.
        policy: The tenant's lists and domains, as they are now.
        since: Mail received before is left alone.
        dry_run: Only record what would be done.
        options: How the tenant wants links treated.
        copy_if_refused: Whether a copy may replace a message that the provider does not let be changed.
    """

    grant: TenantGrant
    mailbox: Mailbox
    mailbox_id: int
    connector: MailboxConnector
    policy: PolicySnapshot
    since: datetime
    dry_run: bool
    options: DeliveryOptions
    copy_if_refused: bool = False

    @property
    def tenant_id(self) -> uuid.UUID:
        """The tenant."""
        return self.grant.tenant_id

    @property
    def may_copy(self) -> bool:
        """Whether a copy may stand beside a message whose writing was begun."""
        return self.copy_if_refused or self.connector.capabilities.replace_mode is not ReplaceMode.EDIT_IN_PLACE
