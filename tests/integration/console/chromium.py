"""A real browser before the console: what the tests of its pages share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from playwright.async_api import ConsoleMessage, Page, async_playwright
from sqlalchemy.ext.asyncio import AsyncSession

from app.gateway.models import Click
from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage
from app.protection.mail_models import MailAlert
from app.protection.models import (
    BackfillPart,
    BackfillRun,
    IntakeCount,
    MailboxRow,
    MessageEvent,
    MessageLink,
    MessageMove,
    MessageRow,
)
from app.tenants.actor import Role
from app.tenants.models import Domain, Tenant
from tests.chromium import ARGUMENTS
from tests.integration.console.world import Browser, Console

# Interactive elements smaller than 24 by 24 CSS pixels, but for links within a sentence (WCAG 2.2, 2.5.8).
SMALL_TARGETS = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary')]
  .filter(e => e.checkVisibility() && !(e.tagName === 'A' && getComputedStyle(e).display === 'inline'))
  .filter(e => !e.closest('label') && !e.classList.contains('skip'))
  .map(e => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()])
  .filter(([, box]) => box.width < 24 || box.height < 24)
  .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""

# Text whose contrast against what is behind it is under 4.5:1, or 3:1 where it is large (WCAG 2.2, 1.4.3).
POOR_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(':disabled, .hidden, svg')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(style.color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${element.outerHTML.slice(0, 90)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def _is_ours(line: ConsoleMessage) -> bool:
    """An error of a page of the console; the emulated providers' pages have no favicon."""
    return line.type == "error" and not line.location.get("url", "").endswith("/favicon.ico")


@asynccontextmanager
async def open_page(chromium: str, complaints: list[str], **options: Any) -> AsyncIterator[Page]:
    """A page whose complaints (script errors, what the security policy refused) are collected."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda line: complaints.append(line.text) if _is_ours(line) else None)
            yield page
        finally:
            await browser.close()


async def carry_session(page: Page, browser: Browser) -> None:
    """Give the page the session that a test made."""
    name = "postern-session"
    await page.context.add_cookies([{"name": name, "value": browser.http.cookies[name], "url": browser.console.url}])


class Filled(NamedTuple):
    """A tenant with something on every page."""

    tenant_id: uuid.UUID
    browser: Browser
    mailbox: int
    message: int
    incident: int


async def fill(console: Console) -> Filled:
    """Make one, and sign its owner in."""
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        session.add(Domain(tenant_id=tenant_id, name="a-rather-long-domain-name.nordwind.example", protected=True))
        session.add(Domain(tenant_id=tenant_id, name="nordwind.example", protected=True))
        box = MailboxRow(
            tenant_id=tenant_id,
            external_id="a",
            address="a.very.long.local.part@nordwind.example",
            domain="nordwind.example",
            error="Something is wrong with it.",
        )
        session.add(box)
        await session.flush()
        message = MessageRow(
            tenant_id=tenant_id,
            mailbox_id=box.id,
            external_id="m",
            current_id="m",
            state="protected",
            subject="Averyveryveryveryveryveryveryveryveryveryveryveryveryverylongwordinasubject",
            sender="billing@supplier.example",
            links=1,
            seen_at=console.clock(),
            warnings=[{"message": "An attachment was not looked into."}],
        )
        session.add(message)
        await session.flush()
        await add_runs(session, console, tenant_id, box.id, message.id)
        for kind in ("seen", "written", "verified", "protected"):
            session.add(MessageEvent(tenant_id=tenant_id, message_id=message.id, kind=kind, detail={}))
        session.add(
            MessageLink(
                tenant_id=tenant_id,
                message_id=message.id,
                ordinal=0,
                url="https://login.evil.example/" + "x" * 200,
                host="login.evil.example",
                kind="anchor",
                text="paypal.com",
                findings=[{"message": "The text shows another site."}],
            )
        )
        incident = await add_incident(session, tenant_id, box.id, message.id)
    for level, action in (
        ("clean", "redirect"),
        ("unknown", "redirect"),
        ("suspicious", "warn"),
        ("malicious", "block"),
    ):
        await add_click(console, tenant_id, level, action, box.id, message.id)
    browser = await console.signed_in(tenant_id, Role.OWNER)
    await browser.page("/lists")
    for action in ("allow", "block", "ignore", "lock"):
        await browser.post("/lists", {"action": action, "pattern": f"{action}.example", "note": "A note"})
    return Filled(tenant_id, browser, box.id, message.id, incident)


async def add_runs(
    session: AsyncSession, console: Console, tenant_id: uuid.UUID, mailbox_id: int, message_id: int
) -> None:
    """A failed message, one in quarantine and one released, a backfill under way and one that ended."""
    now, who = console.clock(), "a.very.long.local.part@nordwind.example"
    failed = MessageRow(
        tenant_id=tenant_id,
        mailbox_id=mailbox_id,
        external_id="f",
        current_id="f",
        state="failed",
        reason="WriteNotVerified: what was read back is not what was written, so the original was kept",
        subject="Could not be protected",
    )
    session.add(failed)
    await session.flush()
    for number, (state, place) in enumerate((("moved", "quarantine"), ("released", "junk"))):
        session.add(
            MessageMove(
                tenant_id=tenant_id,
                message_id=(message_id, failed.id)[number],
                mailbox_id=mailbox_id,
                place=place,
                why="The link in it turned malicious after delivery",
                state=state,
                requested_by=who,
                released_by=who if number else "",
                moved_at=now,
            )
        )
    for number, state in enumerate(("done", "running")):
        run = BackfillRun(
            tenant_id=tenant_id,
            scope=("domain", "tenant")[number],
            target="a-rather-long-domain-name.nordwind.example",
            since=now - timedelta(days=30),
            until=now,
            requested_by=who,
            started_at=now - timedelta(minutes=4),
            finished_at=None if number else now,
            state=state,
        )
        session.add(run)
        await session.flush()
        session.add(
            BackfillPart(
                tenant_id=tenant_id,
                run_id=run.id,
                mailbox_id=mailbox_id,
                state=state,
                total=1_200,
                looked=(1_200, 300)[number],
                done=250,
                skipped=40,
                failed=number,
                error="The mailbox is suspended at the provider." if number else "",
            )
        )
    session.add(IntakeCount(provider="microsoft", reason="taken", hour=now, count=1))


async def add_incident(session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, message_id: int) -> int:
    """A link that turned out to be bad, and the mails that told of it."""
    subject = "login.evil.example/" + "x" * 100
    incident = Incident(tenant_id=tenant_id, kind="checked", subject=subject, host="login.evil.example", messages=1)
    session.add(incident)
    await session.flush()
    session.add(
        IncidentMessage(
            tenant_id=tenant_id, incident_id=incident.id, message_id=message_id, mailbox_id=mailbox_id, urls=[]
        )
    )
    for kind in ("opened", "quarantine", "alert_failed", "mailed"):
        session.add(IncidentEvent(tenant_id=tenant_id, incident_id=incident.id, kind=kind, actor="Postern"))
    for number, state in enumerate(("sent", "waiting", "failed")):
        session.add(
            MailAlert(
                tenant_id=tenant_id,
                kind="incident",
                about=incident.id,
                number=number,
                recipient="a.very.long.local.part.of.somebody@security.nordwind.example",
                state=state,
                error="recipient 550" if number else "",
            )
        )
    tenant = await session.get_one(Tenant, tenant_id)
    tenant.settings = {**tenant.settings, "mail": {"recipients": ["soc@nordwind.example"]}}
    return incident.id


async def add_click(
    console: Console, tenant_id: uuid.UUID, level: str, action: str, mailbox: int, message: int | None = None
) -> None:
    async with console.database.tenant(tenant_id) as session:
        session.add(
            Click(
                tenant_id=tenant_id,
                id=uuid.uuid4(),
                at=console.clock(),
                mailbox_id=mailbox,
                message_id=message,
                url=f"https://{level}.example/path",
                host=f"{level}.example",
                level=level,
                action=action,
            )
        )
