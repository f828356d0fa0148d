"""How a tenant wants links treated at delivery (L12, L14, L15, L20), as plain values that can be stored. PURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from app.messages.tracking_params import PatternError, check_pattern
from app.messages.types import FoundLink, LinkAction, OpenedLink, StyleOptions, TransformPlan

Mode = Literal["rewrite", "redact", "style"]

SUSPICIOUS_CODES = frozenset(
    {
        "text_mismatch",
        "ip_host",
        "ip_host_disguised",
        "user_information",
        "mixed_script",
        "homograph",
        "homograph_unnamed",
        "lookalike",
        "embedded",
        "other_suffix",
        "affixed",
        "hidden",
        "forged_gateway_link",
        "invisible_characters",
    }
)
"""Findings that put a link among the suspicious ones at delivery."""

MAX_TEXT = 200
MAX_PATTERNS = 50


class OptionError(ValueError):
    """An option is not acceptable; the text names it."""


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """What is done with links when a message is protected. The defaults rewrite everything and change no more.

    Attributes:
        suspicious: Mode for links with a finding of :data:`SUSPICIOUS_CODES`.
        other: Mode for all other links.
        redact_text: What stands in place of a redacted address.
        hxxp: Style mode: ``http`` becomes ``hxxp``.
        brackets: Style mode: dots of the host become ``[.]``.
        remove_href: Style mode: the link attribute is emptied.
        qr: ``report``, ``deface`` or ``replace``.
        strip_tracking: Remove tracking parameters from targets.
        tracking_patterns: Own RE2 patterns of parameter names.
        tag: Hover title of rewritten links; empty for none.
        bare_domains: ``example.com`` in text is a link too.
        rewrite_attachments: Rewrite HTML and SVG attachments.
        leave_unsubscribe: Leave links that also stand in List-Unsubscribe.
    """

    suspicious: Mode = "rewrite"
    other: Mode = "rewrite"
    redact_text: str = "[link removed]"
    hxxp: bool = True
    brackets: bool = True
    remove_href: bool = False
    qr: Literal["report", "deface", "replace"] = "report"
    strip_tracking: bool = False
    tracking_patterns: tuple[str, ...] = ()
    tag: str = ""
    bare_domains: bool = False
    rewrite_attachments: bool = False
    leave_unsubscribe: bool = False

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> DeliveryOptions:
        """Read stored or given values.

        Raises:
            OptionError: An option is unknown or has a value it cannot have.
        """
        known = {field.name: field for field in fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise OptionError(f"there is no option {name!r}")
            _check(name, value, getattr(cls(), name))
        patterns = tuple(values.get("tracking_patterns", ()))
        return cls(**{**values, "tracking_patterns": patterns})

    def as_json(self) -> dict[str, Any]:
        """What differs from the defaults, for storing."""
        default = DeliveryOptions()
        stored: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != getattr(default, field.name):
                stored[field.name] = list(value) if isinstance(value, tuple) else value
        return stored

    def action(self, link: FoundLink) -> LinkAction:
        """What is done with a link that no list decides about."""
        odd = any(finding.code in SUSPICIOUS_CODES for finding in link.findings)
        return LinkAction(self.suspicious if odd else self.other)

    def plan(
        self,
        gateway: str,
        mint: Callable[[FoundLink], str],
        open_link: Callable[[str], OpenedLink | None],
        *,
        ignored: Callable[[FoundLink], bool] = lambda _: False,
        own_domains: tuple[str, ...] = (),
        unsubscribe: tuple[str, ...] = (),
    ) -> TransformPlan:
        """The transformer's plan.

        Args:
            gateway: Address of the gateway.
            mint: Makes links.
            open_link: Opens them.
            ignored: Whether a list says that a link stays as it is.
            own_domains: The tenant's own domains.
            unsubscribe: Targets to unsubscribe with, where the headers are not part of what is transformed.
        """
        return TransformPlan(
            gateway=gateway.rstrip("/"),
            mint=mint,
            decide=lambda link: LinkAction.LEAVE if ignored(link) else self.action(link),
            open_link=open_link,
            own_domains=own_domains,
            redact_text=self.redact_text,
            style=StyleOptions(hxxp=self.hxxp, brackets=self.brackets, remove_href=self.remove_href),
            bare_domains=self.bare_domains,
            strip_tracking=self.strip_tracking,
            tracking_patterns=self.tracking_patterns,
            tag=self.tag or None,
            rewrite_attachments=self.rewrite_attachments,
            unsubscribe=unsubscribe,
            leave_unsubscribe=self.leave_unsubscribe,
            qr=self.qr,
        )


_CHOICES: dict[str, tuple[str, ...]] = {
    "suspicious": ("rewrite", "redact", "style"),
    "other": ("rewrite", "redact", "style"),
    "qr": ("report", "deface", "replace"),
}


def _check(name: str, value: object, default: object) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise OptionError(f"{name} is one of {', '.join(_CHOICES[name])}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise OptionError(f"{name} is true or false")
    elif isinstance(default, str):
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            raise OptionError(f"{name} is a text of at most {MAX_TEXT} characters")
    elif not isinstance(value, list | tuple) or len(value) > MAX_PATTERNS:
        raise OptionError(f"{name} is a list of at most {MAX_PATTERNS} patterns")
    else:
        for pattern in value:
            try:
                check_pattern(pattern)
            except (PatternError, TypeError) as error:
                raise OptionError(f"{name}: {pattern!r} is no RE2 pattern: {error}") from None
