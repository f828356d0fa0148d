"""Who is there: "Nordwind Logistik" in Microsoft 365 and "Kasuga Books" in Google Workspace."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.emulators.google.accounts import NewUser
from connectors.emulators.world import World


@dataclass(frozen=True, slots=True)
class Recipient:
    """A mailbox of the demo."""

    provider: str
    address: str
    name: str
    company: str


NORDWIND_TENANT = "5b0c7a6e-93f1-4f0e-8a3d-2f9a41c7d6e0"
"""Tenant id of Nordwind Logistik."""
KASUGA_CUSTOMER = "C03kasuga1"
"""Customer id of Kasuga Books."""

NORDWIND = (
    Recipient("microsoft", "mara.lindt@nordwind.example", "Mara Lindt", "Nordwind Logistik"),
    Recipient("microsoft", "jonas.reuter@nordwind.example", "Jonas Reuter", "Nordwind Logistik"),
    Recipient("microsoft", "aylin.demir@nordwind.example", "Aylin Demir", "Nordwind Logistik"),
    Recipient("microsoft", "peter.vogt@nordwind.example", "Peter Vogt", "Nordwind Logistik"),
    Recipient("microsoft", "sofia.marek@nordwind.example", "Sofia Marek", "Nordwind Logistik"),
)
KASUGA = (
    Recipient("google", "haruka.mori@kasuga.example", "Haruka Mori", "Kasuga Books"),
    Recipient("google", "kenji.abe@kasuga.example", "Kenji Abe", "Kasuga Books"),
    Recipient("google", "emi.tanaka@kasuga.example", "Emi Tanaka", "Kasuga Books"),
    Recipient("google", "daniel.ford@kasuga.example", "Daniel Ford", "Kasuga Books"),
    Recipient("google", "yui.sato@kasuga.example", "Yui Sato", "Kasuga Books"),
)
RECIPIENTS = (*NORDWIND, *KASUGA)
"""All mailboxes; the first of each organisation is its administrator."""


def seed(world: World) -> None:
    """Make both organisations; nobody has consented to anything yet.

    Raises:
        ValueError: There are organisations already.
    """
    if not world.is_new:
        raise ValueError("the emulators hold organisations already; nothing was seeded")
    state = world.microsoft
    tenant = state.add_tenant("Nordwind Logistik", "nordwind.example", NORDWIND_TENANT)
    people = [
        state.add_person(tenant, each.name, each.address, is_admin=index == 0) for index, each in enumerate(NORDWIND)
    ]
    state.add_group(tenant, "Disposition", people[1:4], "disposition@nordwind.example")
    world.google.create_domain(
        "kasuga.example",
        KASUGA_CUSTOMER,
        [NewUser(each.address, each.name, admin=index == 0) for index, each in enumerate(KASUGA)],
    )
    world.google.title = "Kasuga Books (Google Workspace)"
    world.remember("google_title", world.google.title)
