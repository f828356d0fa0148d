"""Public types of the message transformer.

Everything here is plain data: no I/O, no settings, no database. The transformer is handed two functions, `mint`
(a found link becomes a gateway URL) and `open_link` (a gateway URL becomes what it stands for), and works on bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

_NO_EVIDENCE: Mapping[str, str] = MappingProxyType({})


class LinkKind(StrEnum):
    """Where a link stood: the markup (or the medium) that makes it clickable."""

    ANCHOR = "anchor"
    AREA = "area"
    FORM = "form"
    FORMACTION = "formaction"
    SVG = "svg"
    MATHML = "mathml"
    META_REFRESH = "meta_refresh"
    BASE = "base"
    VML = "vml"
    CONDITIONAL = "conditional"
    """Any other element with ``href`` inside an Outlook conditional comment."""
    PING = "ping"
    FRAME = "frame"
    TEXT = "text"
    HTML_TEXT = "html_text"
    """A bare address in HTML text, which mail clients make clickable by themselves."""
    QR = "qr"
    CALENDAR = "calendar"
    ATTACHMENT = "attachment"
    AMP = "amp"


class LinkAction(StrEnum):
    """What is done with one link (features L12 and L4)."""

    REWRITE = "rewrite"
    LEAVE = "leave"
    REDACT = "redact"
    STYLE = "style"


class SkipReason(StrEnum):
    """Why a message was left byte-identical."""

    SIGNED = "signed"
    ENCRYPTED = "encrypted"
    PGP_INLINE = "pgp_inline"
    RIGHTS_MANAGED = "rights_managed"
    CONFIDENTIAL_MODE = "confidential_mode"
    MEETING = "meeting"
    REPORT = "report"
    UNPARSABLE = "unparsable"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something noticed about a link or a message, for the verdict engine and for the person who reads about it.

    Attributes:
        code: Stable snake_case name, such as ``text_mismatch``.
        where: Where it stood: the MIME part path and the kind of link, such as ``1.2 anchor``.
        message: One English sentence that says what was seen.
        evidence: Values the message speaks of, by name (hosts, texts); never more than a few hundred characters.
    """

    code: str
    where: str
    message: str
    evidence: Mapping[str, str] = field(default_factory=lambda: _NO_EVIDENCE)


@dataclass(frozen=True, slots=True)
class FoundLink:
    """One link as it stood in the message.

    Attributes:
        url: Absolute target as a browser resolves it, otherwise not normalised (fragment, port and case kept). It
            can be unparsable (``http://[``): a mint must cope and let the gateway refuse it.
        source: The exact bytes that the gateway URL replaces, in the encoding of the part (quoted-printable
            included, base64 decoded). Empty when an anchor was put around a bare address: nothing was replaced.
        kind: The markup that makes it clickable.
        part: MIME part path such as ``1.2``; ``1`` for a message of one part and for a Graph body.
        text: What the reader sees for it (at most 500 characters).
        findings: What was noticed about it.
        unsubscribe: The target also stands in the message's ``List-Unsubscribe`` header: never blocked nor fetched.
        inner_url: The target inside another vendor's wrapper, when there was one: what is to be judged and shown.
    """

    url: str
    source: bytes
    kind: LinkKind
    part: str
    text: str
    findings: tuple[Finding, ...] = ()
    unsubscribe: bool = False
    inner_url: str | None = None


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """What one of our own gateway links stands for.

    Attributes:
        url: The target.
        source: The bytes the link replaced (`FoundLink.source`).
        same_message: Minted for this very message and recipient. Only such links are restored.
    """

    url: str
    source: bytes
    same_message: bool


@dataclass(frozen=True, slots=True)
class RewrittenLink:
    """A link that was found and what became of it.

    Attributes:
        link: The link as it stood.
        action: What was done.
        gateway_url: The minted URL, or None when the link was not rewritten.
    """

    link: FoundLink
    action: LinkAction
    gateway_url: str | None


@dataclass(frozen=True, slots=True)
class StyleOptions:
    """How a link is made unclickable in the ``style`` mode; the three can be combined (L12).

    Attributes:
        hxxp: ``http`` becomes ``hxxp``.
        brackets: The dots of the host become ``[.]``.
        remove_href: The link attribute is emptied, so that nothing is left to click.
    """

    hxxp: bool = True
    brackets: bool = True
    remove_href: bool = False


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """What to do with a message. Every optional field has a safe default.

    Attributes:
        gateway: Base URL of the click gateway, such as ``https://gw.example``. Links under it are ours.
        mint: Returns the gateway URL for a found link: printable ASCII without quotes, ``<``, ``>``, ``&`` or spaces,
            ending in a letter, digit, ``-`` or ``_``. May raise ValueError: the link is then left and reported. Asked
            once for links of the same URL, source and kind in a message.
        decide: What to do with a link; None rewrites every one.
        open_link: Opens one of our own links; None when it is not a valid one.
        own_domains: The tenant's own domains, for look-alike findings.
        redact_text: What a redacted address is replaced with.
        style: How links are made unclickable in the style mode.
        bare_domains: Also take ``example.com`` without a scheme in text for a link.
        strip_tracking: Remove tracking parameters from targets (the original stays in `FoundLink.source`).
        tracking_patterns: The tenant's own RE2 patterns of tracking parameter names.
        tag: Text put as ``title`` on rewritten anchors ("protected link"), None for none.
        html_attachments: Rewrite ``text/html`` parts that are marked as attachments too.
        rewrite_attachments: Rewrite HTML, XHTML and SVG files of other types too; False only reports their links.
        remove_amp: Remove ``text/x-amp-html`` alternatives from a message that is rewritten.
        unsubscribe: Targets to unsubscribe with, where the headers are not part of what is transformed (Graph bodies).
        leave_unsubscribe: Leave links of the body that also stand in ``List-Unsubscribe`` as they are.
        qr: What to do with QR codes in pictures: ``report``, ``deface`` (make unreadable) or ``replace`` by one for the
            gateway link. A policy that leaves the link leaves the code.
    """

    gateway: str
    mint: Callable[[FoundLink], str]
    decide: Callable[[FoundLink], LinkAction] | None = None
    open_link: Callable[[str], OpenedLink | None] | None = None
    own_domains: tuple[str, ...] = ()
    redact_text: str = "[link removed]"
    style: StyleOptions = field(default_factory=StyleOptions)
    bare_domains: bool = False
    strip_tracking: bool = False
    tracking_patterns: tuple[str, ...] = ()
    tag: str | None = None
    html_attachments: bool = True
    rewrite_attachments: bool = False
    remove_amp: bool = True
    unsubscribe: tuple[str, ...] = ()
    leave_unsubscribe: bool = False
    qr: Literal["report", "deface", "replace"] = "report"


@dataclass(frozen=True, slots=True)
class TransformWarning:
    """Something about the message that was not covered or not as it should be; counted and shown (N10).

    Attributes:
        code: Stable snake_case name, such as ``broken_base64``.
        part: MIME part path, or ``""`` for the message as a whole.
        message: One English sentence.
    """

    code: str
    part: str
    message: str


@dataclass(frozen=True, slots=True)
class TransformResult:
    """A transformed message.

    Attributes:
        content: The message; the very input when nothing changed.
        changed: Whether a byte differs from the input.
        links: Every link found, in the order of the message.
        warnings: What was not covered, and why.
        skipped: Why the message was left as it was, or None.
        undo: What restoring needs beyond the links themselves, or None. Holds original content: keep it sealed.
        findings: Findings about the message rather than about one link.
    """

    content: bytes
    changed: bool
    links: tuple[RewrittenLink, ...] = ()
    warnings: tuple[TransformWarning, ...] = ()
    skipped: SkipReason | None = None
    undo: bytes | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class BodyResult:
    """A transformed Graph body: like `TransformResult`, with text for content."""

    content: str
    changed: bool
    links: tuple[RewrittenLink, ...] = ()
    warnings: tuple[TransformWarning, ...] = ()
    skipped: SkipReason | None = None
    undo: bytes | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreFailure:
    """A gateway link that could not be taken back.

    Attributes:
        part: MIME part path.
        url: The gateway URL, or ``""`` when it is the undo record that did not fit.
        reason: Stable snake_case reason.
    """

    part: str
    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A restored message.

    Attributes:
        content: The message with every link taken back that could be.
        changed: Whether a byte differs from the input.
        restored: How many links were taken back.
        failed: What could not be taken back; those places are as they were.
    """

    content: bytes
    changed: bool
    restored: int
    failed: tuple[RestoreFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreBodyResult:
    """A restored Graph body: like `RestoreResult`, with text for content."""

    content: str
    changed: bool
    restored: int
    failed: tuple[RestoreFailure, ...] = ()
