"""Showing things to people: hostile text made visible, times, numbers, and the words for states.

Subjects, senders, hosts and URLs are whatever an attacker wrote. Templates escape them (Jinja autoescape) and
never link them; :func:`visible` also takes away what escaping does not: control characters and the Unicode
bidirectional and invisible formatting characters that make text look like another one (UAX #9, UTS #39).
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from markupsafe import Markup

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}


def N_(text: str) -> str:
    """Mark a text for the catalogue without translating it yet."""
    return text


def visible(text: object, limit: int = 300) -> str:
    """The text with every invisible or direction-changing character shown as its code point.

    Args:
        text: Anything; None is empty.
        limit: Characters kept; the rest becomes an ellipsis.
    """
    source = "" if text is None else str(text)
    cut = source[: limit + 1]
    # What is printable holds none of these characters: the usual case, and cheap.
    shown = (
        cut
        if cut.isprintable()
        else "".join(
            f"\u27e8U+{ord(character):04X}\u27e9"
            if unicodedata.category(character) in _INVISIBLE and character not in _JOINERS
            else character
            for character in cut
        )
    )
    return shown if len(shown) <= limit else shown[:limit] + "…"


def clean_query(text: str, limit: int = 200) -> str:
    """A search text without what PostgreSQL text cannot hold, and of bounded length."""
    return "".join(character for character in text[:limit] if character.isprintable()).strip()


def exact(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond: for the ``datetime`` attribute."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_tag(moment: datetime | None, style: str = "moment") -> Markup:
    """A ``<time>`` that the page's script shows in local time; without script it is UTC.

    Args:
        moment: Aware time; None gives a dash.
        style: ``moment`` (date and time), ``clock`` (time alone on the same day) or ``ago`` (relative).
    """
    if moment is None:
        return Markup('<span class="none">–</span>')
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" data-show="{}" title="{}">{}</time>').format(
        exact(moment), style, f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%Y-%m-%d %H:%M} UTC"
    )


def split_url(url: str, host: str) -> tuple[str, str, str]:
    """A URL as (before the host, the host, after it), to print the host in bold.

    The host is the one that was parsed when the click or link was recorded; where it is not literally in
    the URL (odd spellings), the URL comes back whole.
    """
    authority_at = url.find("//") + 2
    authority_end = next((at for at in range(authority_at, len(url)) if url[at] in "/?#\\"), len(url))
    at = url.lower().rfind(host.lower(), authority_at, authority_end) if host and authority_at > 1 else -1
    if at < 0:
        return url, "", ""
    return url[:at], url[at : at + len(host)], url[at + len(host) :]


LEVELS = {
    "clean": N_("No threat found"),
    "unknown": N_("Unknown"),
    "suspicious": N_("Suspicious"),
    "malicious": N_("Malicious"),
}
ACTIONS = {
    "redirect": N_("Opened"),
    "warn": N_("Warned"),
    "proceed": N_("Continued"),
    "early": N_("Opened without waiting"),
    "block": N_("Blocked"),
    "wait": N_("Waiting page"),
    "lock": N_("Locked"),
    "expired": N_("Expired link"),
}
STATES = {
    "seen": N_("Seen"),
    "writing": N_("In progress"),
    "protected": N_("Protected"),
    "skipped": N_("Left as it was"),
    "dry_run": N_("Dry run"),
    "failed": N_("Failed"),
    "restoring": N_("Being restored"),
    "restored": N_("Restored"),
    "gone": N_("Deleted by its owner"),
}
EVENTS = {
    "seen": N_("Delivered and seen"),
    "skipped": N_("Left as it was"),
    "written": N_("New content written"),
    "verified": N_("Read back and verified"),
    "removed": N_("Original copy removed"),
    "returned": N_("Original brought back from the bin: removed again or protected anew"),
    "protected": N_("Links protected"),
    "dry_run": N_("Dry run: nothing was changed"),
    "failed": N_("Failed"),
    "retry": N_("Tried again later"),
    "restored": N_("Original links restored"),
    "gone": N_("Deleted by its owner"),
    "incident": N_("Part of an incident"),
    "quarantined": N_("Moved to quarantine"),
    "junked": N_("Moved to junk"),
    "released": N_("Released: back where it was"),
    "move_gone": N_("Not moved: its owner deleted it"),
    "move_failed": N_("Could not be moved: it stays where it is"),
    "restore_failed": N_("Restore failed: the message was left as it is"),
    "restore_gone": N_("Not restored: its owner deleted it"),
    "restore_skipped": N_("Not restored"),
}
ROLES = {
    "owner": N_("Owner"),
    "operator": N_("Operator"),
    "analyst": N_("Analyst"),
    "auditor": N_("Auditor"),
    "domain_admin": N_("Domain administrator"),
    "user": N_("User"),
}
PROVIDERS = {"microsoft": "Microsoft 365", "google": "Google Workspace"}
CHECK_STATES = {
    "passed": N_("Passed"),
    "failed": N_("Failed"),
    "unknown": N_("Could not be told"),
    "skipped": N_("Skipped"),
}
CHECKS = {
    "provider": N_("Reaching the provider"),
    "consent": N_("Consent of your organisation"),
    "delegation": N_("Domain-wide delegation"),
    "directory": N_("Listing the mailboxes"),
    "mail_read_write": N_("Reading and moving messages"),
    "mail_advanced": N_("Changing received messages"),
    "mail_read": N_("Reading and changing messages"),
    "mailbox_access": N_("Reading a real mailbox"),
    "permanent_delete": N_("Deleting originals for good"),
    "push": N_("Notifications of new mail"),
}
TENANT_STATES = {
    "onboarding": N_("Being connected"),
    "active": N_("Active"),
    "paused": N_("Paused"),
    "revoked": N_("Access revoked"),
    "blocked": N_("A permission is missing"),
    "leaving": N_("Leaving"),
}
RUN_STATES = {
    "waiting": N_("Waiting"),
    "running": N_("Running"),
    "done": N_("Done"),
    "cancelled": N_("Cancelled"),
}
SCOPES = {
    "message": N_("One message"),
    "mailbox": N_("Mailbox"),
    "domain": N_("Domain"),
    "tenant": N_("Everything"),
}
LIST_ACTIONS = {
    "allow": N_("Allow"),
    "block": N_("Block"),
    "ignore": N_("Leave as is"),
    "lock": N_("Lock"),
}
LINK_ACTIONS = {
    "rewrite": N_("Protected"),
    "leave": N_("Left as it was"),
    "redact": N_("Replaced by a text"),
    "style": N_("Made unclickable"),
}
REASONS = {
    "draft": N_("a draft"),
    "sent": N_("sent mail"),
    "from_owner": N_("written by the mailbox's owner"),
    "chat": N_("a chat message"),
    "spam": N_("in the junk folder"),
    "trash": N_("in the bin"),
    "signed": N_("signed: a change would break the signature"),
    "encrypted": N_("encrypted"),
    "rights_managed": N_("rights-managed"),
    "confidential_mode": N_("sent in confidential mode"),
    "meeting": N_("a meeting invitation"),
    "report": N_("a delivery report"),
    "approval": N_("an approval request"),
    "unknown_class": N_("of a kind that is not known"),
    "no_links": N_("nothing to protect in it"),
    "pgp_inline": N_("PGP-signed or encrypted"),
    "unparsable": N_("it could not be read reliably"),
    "empty": N_("it is empty"),
    "too_large": N_("too large for the provider to write back"),
    "deleted": N_("deleted by its owner"),
}
PLACES = {"quarantine": N_("Quarantine"), "junk": N_("Junk")}
MOVE_STATES = {
    "asked": N_("Waiting to be moved"),
    "moving": N_("Being moved"),
    "moved": N_("Moved"),
    "releasing": N_("Being released"),
    "released": N_("Released"),
    "gone": N_("Deleted by its owner"),
    "failed": N_("Failed"),
}
INCIDENT_STATES = {
    "open": N_("Open"),
    "closed": N_("Closed"),
    "false_positive": N_("A mistake"),
}
INCIDENT_KINDS = {
    "listed": N_("On a threat list"),
    "rule": N_("On your own list"),
    "checked": N_("Found at a click"),
}
INCIDENT_WANTED = {
    "quarantine": N_("every copy is moved, those found later too"),
    "release": N_("being released"),
}
INCIDENT_EVENTS = {
    "opened": N_("Turned out to be bad"),
    "reopened": N_("Open again"),
    "quarantine": N_("Every copy to quarantine"),
    "quarantined": N_("Being moved to quarantine"),
    "release": N_("Every copy to be released"),
    "released": N_("Being released"),
    "too_many": N_("More copies than are moved without asking"),
    "closed": N_("Closed"),
    "false_positive": N_("A mistake: allowed from now on"),
    "alerted": N_("The webhook was told"),
    "alert_failed": N_("The webhook could not be told"),
}
WHAT_IF = {
    "direct": N_("The link is not rewritten, so Postern sees no click."),
    "expired": N_("The link is older than links work in your organisation."),
    "redirect": N_("It opens."),
    "warn": N_("A warning comes first; the person can go on."),
    "block": N_("It is stopped; there is no way through."),
    "lock": N_("It is held until somebody changes your list."),
}
TREATMENTS = {
    "protected": N_("Protected"),
    "anybody": N_("Protected, where protection is on"),
    "dry_run": N_("Left as it is: the domain is in a dry run"),
    "tenant": N_("Left as it is: protection is paused or not active"),
    "domain": N_("Left as it is: protection is off for the domain"),
    "mailbox": N_("Left as it is: the mailbox is left out or disabled"),
    "before": N_("Left as it is: it came before protection was switched on"),
}
COPY_NOTES = {
    "released": N_("Released"),
    "gone": N_("Deleted by its owner"),
    "moved_already": N_("Moved before"),
}
LEAVING_STATES = {
    "stopping": N_("Ending notifications and finishing what is under way"),
    "restoring": N_("Restoring original links"),
    "stuck": N_("Some links could not be taken back"),
    "deleting": N_("Deleting"),
    "cancelled": N_("Stopped"),
}
CHOICES = {
    "all": N_("All mailboxes of the directory"),
    "group": N_("Members of groups"),
    "list": N_("Mailboxes of a list"),
}
LEFT_OUT = {
    "suspended": N_("Account blocked"),
    "gone": N_("Not in the directory any more"),
    "not_chosen": N_("Not chosen"),
    "out_of_scope": N_("Not in scope"),
    "unavailable": N_("Unavailable"),
}
INTAKE = {
    "taken": N_("Taken"),
    "unknown_subscription": N_("Refused: unknown subscription"),
    "wrong_secret": N_("Refused: wrong secret"),
    "malformed": N_("Refused: not readable"),
    "not_genuine": N_("Refused: not from the provider"),
    "too_large": N_("Refused: too large"),
    "entry_malformed": N_("Left out: entry not readable"),
    "too_many": N_("Left out: more than 1,000 entries at once"),
    "not_stored": N_("Not stored for now: delivered again"),
}
ACTS = {
    "backfill.cancelled": N_("Going through older mail cancelled"),
    "backfill.requested": N_("Older mail to be gone through"),
    "consent.granted": N_("Access granted"),
    "consent.refused": N_("Access refused"),
    "consent.requested": N_("Access asked for"),
    "delivery.changed": N_("Links at delivery changed"),
    "domain.protected": N_("Protection of a domain switched on"),
    "domain.unprotected": N_("Protection of a domain switched off"),
    "incident.closed": N_("Incident closed"),
    "incident.false_positive": N_("Incident marked as a mistake"),
    "incident.marked": N_("Marked as malicious"),
    "incident.opened": N_("Incident opened"),
    "incident.quarantine": N_("Every copy of an incident to quarantine"),
    "incident.release": N_("Every copy of an incident released"),
    "incident.reopened": N_("Incident opened again"),
    "list.added": N_("List entry added"),
    "list.changed": N_("List entry changed"),
    "list.moved": N_("List entry moved"),
    "list.removed": N_("List entry removed"),
    "logo.changed": N_("Logo changed"),
    "logo.removed": N_("Logo removed"),
    "mailbox.opted_in": N_("Mailbox taken in again"),
    "mailbox.opted_out": N_("Mailbox left out"),
    "mailboxes.chosen": N_("Mailboxes chosen"),
    "mailboxes.refreshed": N_("Mailboxes joined or left"),
    "message.move_requested": N_("Message to be moved"),
    "message.release_requested": N_("Message to be released"),
    "message.retried": N_("Message tried again"),
    "message.viewed": N_("Message looked at"),
    "person.role": N_("Role changed"),
    "person.signed_out": N_("Signed out on all devices"),
    "report.allowed": N_("Request answered: allowed"),
    "report.blocked": N_("Request answered: blocked"),
    "report.dismissed": N_("Request answered: dismissed"),
    "restore.cancelled": N_("Restore cancelled"),
    "restore.requested": N_("Restore asked for"),
    "session.ended": N_("Signed out"),
    "session.started": N_("Signed in"),
    "tenant.active": N_("Protection resumed"),
    "tenant.blocked": N_("Protection stopped: a permission is missing"),
    "tenant.checked": N_("Access checked"),
    "tenant.connected": N_("Organisation connected"),
    "tenant.delete_anyway": N_("To be deleted with links not restored"),
    "tenant.offboarding_cancelled": N_("Leaving stopped"),
    "tenant.offboarding_requested": N_("Leaving asked for"),
    "tenant.offboarding_retried": N_("Leaving tried again"),
    "tenant.paused": N_("Protection paused"),
    "tenant.renewed": N_("Access renewed"),
    "tenant.revoked": N_("Protection stopped: access was revoked"),
    "tenant.settings": N_("Settings of the organisation changed"),
    "turn.changed": N_("What happens when a link turns bad changed"),
}
FACTS = {
    "action": N_("Treatment"),
    "addresses": N_("Addresses"),
    "after": N_("After"),
    "automatic": N_("Copies moved without asking"),
    "before": N_("Before"),
    "bytes": N_("Bytes"),
    "brackets": N_("Dots of the host in brackets"),
    "contact": N_("Contact"),
    "days": N_("Days"),
    "domains": N_("Domains"),
    "dry_run": N_("Dry run"),
    "error": N_("Error"),
    "failed": N_("Failed"),
    "failure": N_("When a link cannot be checked"),
    "groups": N_("Groups"),
    "hxxp": N_("hxxp in place of http"),
    "id": N_("Number"),
    "incident": N_("Incident"),
    "joined": N_("Joined"),
    "keep_address": N_("Network addresses recorded"),
    "link_days": N_("Days for which links work"),
    "accent": N_("Colour of the pages"),
    "block_url": N_("Block page of one's own"),
    "unknown": N_("Links of which nothing is known"),
    "malicious": N_("Malicious links at a click"),
    "suspicious_from": N_("Points from which a link is suspicious"),
    "malicious_from": N_("Points from which a link is malicious"),
    "kind": N_("Kind"),
    "left": N_("Left"),
    "mailboxes": N_("Mailboxes"),
    "message": N_("Message"),
    "messages": N_("Messages"),
    "messages_not_restored": N_("Messages not restored"),
    "move": N_("Move"),
    "name": N_("Name"),
    "note": N_("Note"),
    "other": N_("Other links"),
    "place": N_("Place"),
    "position": N_("Position"),
    "provider": N_("Provider"),
    "qr": N_("QR codes in pictures"),
    "reason": N_("Reason"),
    "redact_text": N_("Text in place of a replaced link"),
    "refused": N_("Refused"),
    "remove_href": N_("The link is taken away"),
    "rewrite_attachments": N_("Links in attachments rewritten"),
    "run": N_("Run"),
    "since": N_("Since"),
    "strip_tracking": N_("Tracking parameters removed"),
    "suspicious": N_("Suspicious links"),
    "tag": N_("Hover title"),
    "tracking_patterns": N_("Tracking parameters of your own"),
    "webhook": N_("Webhook"),
    "who_joined": N_("Who joined"),
    "who_left": N_("Who left"),
    "why": N_("Why"),
}
FAILURES = {"open": N_("Warn, and let people go on"), "closed": N_("Block")}
PLAIN = {"yes": N_("yes"), "no": N_("no"), "none": N_("none")}
ACTORS = {"system": N_("Postern"), "cli": N_("Command line"), "person": N_("A person")}
SOURCE_STATES = {
    "on": N_("In use"),
    "waiting": N_("Not asked yet"),
    "failing": N_("Does not answer"),
    "held": N_("Held for review"),
    "off": N_("Off"),
}
TABLES = {
    "source": SOURCE_STATES,
    "act": ACTS,
    "fact": FACTS,
    "failure": FAILURES,
    "plain": PLAIN,
    "actor": ACTORS,
    "place": PLACES,
    "move": MOVE_STATES,
    "leaving": LEAVING_STATES,
    "incident": INCIDENT_STATES,
    "incident_kind": INCIDENT_KINDS,
    "incident_wanted": INCIDENT_WANTED,
    "incident_event": INCIDENT_EVENTS,
    "copy": COPY_NOTES,
    "what_if": WHAT_IF,
    "treatment": TREATMENTS,
    "intake": INTAKE,
    "choice": CHOICES,
    "left_out": LEFT_OUT,
    "level": LEVELS,
    "action": ACTIONS,
    "state": STATES,
    "event": EVENTS,
    "role": ROLES,
    "check": CHECK_STATES,
    "check_name": CHECKS,
    "tenant": TENANT_STATES,
    "run": RUN_STATES,
    "scope": SCOPES,
    "list": LIST_ACTIONS,
    "link": LINK_ACTIONS,
    "reason": REASONS,
    "provider": PROVIDERS,
}
