"""What is noticed about each link, put together from the judges of hosts, texts, wrappers and parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from app.messages import tracking_params, wrappers
from app.messages.candidates import Candidate
from app.messages.host_findings import HostFinding
from app.messages.lookalike import inspect_url
from app.messages.text_target import text_mismatch
from app.messages.types import Finding, FoundLink, LinkKind, TransformPlan
from app.messages.urls import TargetClass

_AUTHORITY = re.compile(r"(?i)https?://[^/?#\\]*")
_HIDDEN = re.compile(
    r"(?i)display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?:\.0*)?\s*(?:;|!|$)"
    r"|font-size\s*:\s*0(?:\.0*)?(?:px|pt|em|rem|%)?\s*(?:;|!|$)"
    r"|(?:max-)?(?:height|width)\s*:\s*0(?:px|pt|em)?\s*(?:;|!|$)|mso-hide\s*:\s*all"
    r"|(?:^|;)hidden=|(?:^|;)(?:width|height)=0(?:px)?;"
)
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad]")
_TEXT_KINDS = frozenset({LinkKind.TEXT, LinkKind.HTML_TEXT})
_EVIDENCE = 300


_MAX_REMEMBERED = 2_000


@lru_cache(maxsize=16_384)
def _about(authority: str, own: frozenset[str]) -> tuple[bool, tuple[HostFinding, ...]]:
    """Whether another vendor's wrapper may live under an authority, and what there is to say about its host."""
    return wrappers.host_may_wrap(authority), inspect_url(authority + "/", own)


# What is known of a host is kept by this set: the very same object is found at once, an equal one is compared.
_own_domains: Callable[[tuple[str, ...]], frozenset[str]] = lru_cache(maxsize=1_024)(frozenset)


def _is_hidden(style: str) -> bool:
    return _HIDDEN.search(style) is not None


# Links of a newsletter share a few styles, and the pattern takes as long on one of them as all the rest of judging.
_known_hidden = lru_cache(maxsize=2_048)(_is_hidden)


@lru_cache(maxsize=4_096)
def _tracking_names(query: str, patterns: tuple[str, ...]) -> str:
    return ", ".join(tracking_params.names(query, patterns))[:_EVIDENCE]


def _evidence(found: HostFinding) -> Mapping[str, str]:
    return {"strength": found.strength, "about": found.about, **dict(found.fields)}


class LinkJudge:
    """Judges the links of one message under one plan."""

    def __init__(self, plan: TransformPlan) -> None:
        self._plan = plan
        self._own = _own_domains(plan.own_domains)

    def judge(
        self,
        candidate: Candidate,
        url: str,
        source: bytes,
        part: str,
        extra: tuple[Finding, ...],
        *,
        unsubscribe: bool,
    ) -> FoundLink:
        """Make the `FoundLink` of a candidate.

        Args:
            candidate: Where the link stood.
            url: Its target; differs from the candidate's when one of our own links was opened.
            source: The bytes that will be replaced.
            part: MIME part path.
            extra: Findings there are already.
            unsubscribe: Whether the target stands in ``List-Unsubscribe`` too.
        """
        findings = list(extra)
        kind = candidate.kind
        text = candidate.text
        where = f"{part} {kind}"
        if candidate.target is TargetClass.DANGEROUS:
            scheme = url.partition(":")[0].lower()[:40]
            findings.append(
                Finding(
                    "dangerous_scheme",
                    where,
                    f"The link does not open a web page but uses “{scheme}:”; it was made harmless.",
                    {"scheme": scheme, "target": url[:_EVIDENCE]},
                )
            )
            return FoundLink(url, source, kind, part, text, tuple(findings), unsubscribe)
        inner: str | None = None
        judged = url
        authority = _AUTHORITY.match(url)
        if authority is not None:
            may_wrap, about_host = _about(authority[0], self._own)
            if may_wrap:
                inner = self._unwrapped(url, where, findings)
                if inner is not None:
                    judged = inner
                    authority = _AUTHORITY.match(judged)
                    about_host = _about(authority[0], self._own)[1] if authority is not None else ()
            for found in about_host:
                findings.append(Finding(found.code, where, found.message, _evidence(found)))
        if text and kind not in _TEXT_KINDS and text != judged:
            mismatch = text_mismatch(text, judged)
            if mismatch is not None:
                about = mismatch.as_finding()
                findings.append(Finding(about.code, where, about.message, _evidence(about)))
        style = candidate.style
        if style and (_known_hidden(style) if len(style) < _MAX_REMEMBERED else _is_hidden(style)):
            findings.append(
                Finding("hidden", where, "The link is made invisible or has no size.", {"style": style[:_EVIDENCE]})
            )
        if not (text.isascii() and url.isascii()) and (_INVISIBLE.search(text) or _INVISIBLE.search(url)):
            findings.append(
                Finding("invisible_characters", where, "The link contains characters that cannot be seen.", {})
            )
        if "?" in url:
            self._tracking(url, where, findings)
            if self._plan.strip_tracking:
                url = tracking_params.remove(url, self._plan.tracking_patterns)
        if unsubscribe:
            findings.append(Finding("list_unsubscribe", where, "The link is the one to unsubscribe with.", {}))
        return FoundLink(
            url,
            source,
            kind,
            part,
            text,
            tuple(findings),
            unsubscribe=unsubscribe,
            inner_url=inner,
        )

    def _unwrapped(self, url: str, where: str, findings: list[Finding]) -> str | None:
        """Open another vendor's wrapper; return what is inside, None when there is none or it cannot be told."""
        opened = wrappers.unwrap(url)
        if not opened.chain:
            return None
        vendor = opened.chain[0].vendor
        inner = None if opened.opaque else opened.url
        known = f"its target is {opened.url[:_EVIDENCE]}" if inner else "its target cannot be read from it"
        findings.append(
            Finding(
                "wrapped",
                where,
                f"The link is wrapped by {vendor}; {known}.",
                {"vendor": vendor, "inner": (inner or "")[:_EVIDENCE], "depth": str(len(opened.chain))},
            )
        )
        return inner

    def _tracking(self, url: str, where: str, findings: list[Finding]) -> None:
        # Links of a newsletter share their query; the address before it does not matter.
        query = url[url.index("?") :]
        read = _tracking_names if len(query) < _MAX_REMEMBERED else _tracking_names.__wrapped__
        names = read(query, self._plan.tracking_patterns)
        if names:
            findings.append(
                Finding(
                    "tracking_parameters", where, f"The link carries tracking parameters: {names}.", {"names": names}
                )
            )

    def forged(self, url: str, part: str, kind: LinkKind) -> Finding:
        """The finding for a link on our own host that we never made."""
        return Finding(
            "forged_gateway_link",
            f"{part} {kind}",
            "The link pretends to be one of this gateway but was not made by it.",
            {"url": url[:_EVIDENCE]},
        )

    def frame(self, target: str, part: str) -> Finding:
        """The finding for a frame or plug-in that loads another page into the message."""
        return Finding(
            "embedded_frame",
            f"{part} frame",
            "The message loads another page into itself; mail clients do not show it.",
            {"target": target[:_EVIDENCE]},
        )

    def forwarded(self, url: str, target: str, part: str, kind: LinkKind) -> Finding:
        """The finding for a link of ours that was made for another message or recipient."""
        return Finding(
            "forwarded_gateway_link",
            f"{part} {kind}",
            "The link was protected for another recipient; it was made anew for this one.",
            {"url": url[:_EVIDENCE], "target": target[:_EVIDENCE]},
        )
