"""The words for states, acts and answers, in tables that templates look up by name (``name(table, key)``).

English is the source text; the catalogue ``console`` holds German and Japanese.
"""

from __future__ import annotations

from app.console.audit_words import ACTORS, ACTS, CHOSEN, FACTS, FAILURES, PLAIN
from app.kit.i18n import N_

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
    "attachment_added": N_("Attachment: the new one added"),
    "attachment_verified": N_("Attachment: the new one read back and verified"),
    "attachment_removed": N_("Attachment: the old one removed"),
    "attachment_withdrawn": N_("Attachment: the new one taken away again"),
    "duplicate_removed": N_("A doubled copy was put into the bin"),
    "copy_adopted": N_("Another copy of it stands for it now"),
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
    "attachments": N_("Changing pictures with QR codes"),
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
    "unreadable": N_("Made unreadable"),
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
    "not_copyable": N_("a copy would lose what is attached to it"),
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
    "mailed": N_("Administrators were told by mail"),
    "mail_failed": N_("Administrators could not be told by mail"),
}
OUTCOMES = {
    "redirect": N_("the link opens"),
    "warn": N_("a warning comes first"),
    "block": N_("the link is stopped"),
    "lock": N_("the link is held"),
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
SOURCE_STATES = {
    "on": N_("In use"),
    "waiting": N_("Not asked yet"),
    "failing": N_("Does not answer"),
    "held": N_("Held for review"),
    "off": N_("Off"),
}
PATTERNS = {"wildcard": N_("Host, with * for anything"), "re2": N_("Regular expression (RE2)")}
MAIL_PROBLEMS = {
    "answered": N_("The mail server refused it"),
    "login": N_("The mail server refused the login"),
    "no_connection": N_("The mail server cannot be reached"),
    "no_server": N_("No mail server is configured"),
    "no_tls": N_("The mail server offers no encryption, or no login"),
    "recipient": N_("The mail server refused the address"),
    "tls": N_("The mail server's certificate is not accepted"),
}
MAILS = {
    "incident": N_("A dangerous link"),
    "stopped": N_("Protection stopped"),
    "test": N_("Test mail"),
}
MAIL_STATES = {"waiting": N_("Waiting"), "sent": N_("Sent"), "failed": N_("Given up")}
TABLES = {
    "source": SOURCE_STATES,
    "act": ACTS,
    "fact": FACTS,
    "failure": FAILURES,
    "chosen": CHOSEN,
    "plain": PLAIN,
    "actor": ACTORS,
    "place": PLACES,
    "move": MOVE_STATES,
    "leaving": LEAVING_STATES,
    "incident": INCIDENT_STATES,
    "incident_kind": INCIDENT_KINDS,
    "incident_wanted": INCIDENT_WANTED,
    "incident_event": INCIDENT_EVENTS,
    "mail": MAILS,
    "mail_problem": MAIL_PROBLEMS,
    "pattern": PATTERNS,
    "mail_state": MAIL_STATES,
    "copy": COPY_NOTES,
    "outcome": OUTCOMES,
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
