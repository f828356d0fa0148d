"""Delivers the demo's mail: a first lot at the start, then one every few seconds until mailboxes are full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from connectors.emulators.demo import letters_attack as attack
from connectors.emulators.demo import letters_people as people
from connectors.emulators.demo import letters_service as service
from connectors.emulators.demo.organisations import KASUGA, NORDWIND, RECIPIENTS, Recipient
from connectors.emulators.demo.writing import Letter, Scene
from connectors.emulators.world import World

FIRST_LOT: dict[str, tuple[Letter, ...]] = {
    NORDWIND[0].address: (service.newsletter, attack.voucher, attack.phishing, attack.turns_bad),
    NORDWIND[1].address: (service.rechnung, people.partner, attack.lying_text, people.signed),
    NORDWIND[2].address: (people.invitation, service.password_reset, attack.phishing_de, people.dienstplan),
    NORDWIND[3].address: (service.angebote, people.forwarded, attack.shortener, people.qr_code),
    NORDWIND[4].address: (people.list_mail, service.parcel, attack.look_alike, people.encrypted),
    KASUGA[0].address: (service.shinkan, attack.voucher, attack.phishing_ja, attack.turns_bad),
    KASUGA[1].address: (service.chumon, people.recruiting, attack.bare_address, people.signed),
    KASUGA[2].address: (service.sign_in_link, people.invitation, attack.phishing, service.big_letter),
    KASUGA[3].address: (service.shared_document, people.inline_image, attack.shortener, people.bounce),
    KASUGA[4].address: (service.confirm_address, service.survey, attack.lying_text, people.lunch),
}
"""Which letters every mailbox has from the start: forty in all."""

LATER: tuple[Letter, ...] = (
    service.newsletter,
    service.angebote,
    service.shinkan,
    service.chumon,
    service.rechnung,
    service.password_reset,
    service.sign_in_link,
    service.parcel,
    service.shared_document,
    service.new_device,
    people.lunch,
    people.partner,
    people.list_mail,
    people.recruiting,
    attack.phishing,
    attack.voucher,
    attack.shortener,
    attack.lying_text,
)
"""What goes on arriving."""

EVERY_LETTER: tuple[Letter, ...] = tuple(
    dict.fromkeys([*(letter for lot in FIRST_LOT.values() for letter in lot), *LATER])
)


class DemoMail:
    """Writes and delivers letters.

    Args:
        port: Of the emulators, for the links.
        cap: No more mail for a mailbox that holds this many.
        seed: The same letters in the same order for the same seed.
    """

    def __init__(self, world: World, port: int, cap: int = 400, seed: int | None = None) -> None:
        self._world = world
        self._port = port
        self._cap = cap
        self._random = random.Random(seed)  # noqa: S311  # choice of letters
        # Numbers go on where the last run ended: time only moves forward.
        self._number = int(world.clock.timestamp()) % 10_000_000

    def scene(self, to: Recipient) -> Scene:
        """A scene for the next letter."""
        self._number += 1
        return Scene(to, self._world.clock.now(), self._number, self._random, self._port)

    def deliver(self, letter: Letter, to: Recipient) -> str:
        """Write one letter and deliver it.

        Returns:
            The provider's message id.
        """
        return self._world.deliver(to.provider, to.address, letter(self.scene(to)))

    def deliver_some(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Deliver the first lot.

        Args:
            progress: Told how many of how many are delivered.

        Returns:
            How many were delivered.
        """
        total = sum(len(letters) for letters in FIRST_LOT.values())
        done = 0
        for place in range(max(len(letters) for letters in FIRST_LOT.values())):
            for to in RECIPIENTS:
                self.deliver(FIRST_LOT[to.address][place], to)
                done += 1
                if progress is not None:
                    progress(done, total)
        return done

    def deliver_another(self) -> bool:
        """Deliver one letter to somebody.

        Returns:
            False where every mailbox is full.
        """
        open_boxes = [to for to in RECIPIENTS if self._count(to) < self._cap]
        if not open_boxes:
            return False
        self.deliver(self._random.choice(LATER), self._random.choice(open_boxes))
        return True

    def background(self, seconds: float) -> Callable[[], Awaitable[None]]:
        """Work for the server: another letter every so many seconds."""

        async def work() -> None:
            while True:
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.deliver_another)

        return work

    def _count(self, to: Recipient) -> int:
        if to.provider == "microsoft":
            return len(self._world.microsoft.messages_of(self._world.microsoft.person(to.address).id))
        return len(self._world.google.mailbox(to.address).messages)
