"""Links that must not be opened by a checker, because opening them is the act (N1). PURE.

Sign-in, password reset, confirmation, invitation and unsubscribe links work once or do something. They are known by
their words, or by a value that looks like a token. Better one page too many unseen than one sign-in link used up.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

import ada_url

from app.messages.hosts import words

_ACT_WORDS: Final = words("""
    abmelden abbestellen activate activation accept accountrecovery approve auth authorize bestaetigen bestätigen
    confirm confirmation decline deregister einladung freischalten invitation invite joinlink login loginlink
    magic magiclink onetime optin optout otp passwordless passwordreset rsvp recover recovery register reject
    reset resetpassword signin sso subscribe unlock unsubscribe validate validation verification verify verifyemail
    vote
""")
_PARAMETERS: Final = words("""
    access_token auth auth_token authtoken code confirmation_token hash hmac id_token invitation_token jwt key
    login_token magic mac nonce one_time_token otp reset_token s secret sig signature ticket tk tok token uid_token
""")
_WORD_RE: Final = re.compile(r"[^\W_]+")
_UUID_RE: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_TOKEN_RE: Final = re.compile(r"[A-Za-z0-9_.=~-]{20,}\Z")


def looks_single_use(url: str) -> bool:
    """Whether an address looks like one that works once, or whose opening does something."""
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return True
    if parsed.protocol not in ("http:", "https:"):
        return True
    path = parsed.pathname.lower()
    if any(word in _ACT_WORDS for word in _WORD_RE.findall(path)):
        return True
    segments = [segment for segment in parsed.pathname.split("/") if segment]
    if any(looks_like_token(segment) for segment in segments):
        return True
    for pair in parsed.search.lstrip("?").split("&"):
        name, _, value = pair.partition("=")
        name = name.lower()
        if name in _ACT_WORDS or value.lower() in _ACT_WORDS:
            return True
        if (name in _PARAMETERS and len(value) >= 6) or looks_like_token(value):
            return True
    return False


def looks_like_token(text: str) -> bool:
    """Whether a text is of a kind that only a machine writes: long, and letters and digits mixed."""
    if _UUID_RE.search(text):
        return True
    if _TOKEN_RE.match(text) is None:
        return False
    digits = sum(character.isdigit() for character in text)
    upper = sum(character.isupper() for character in text)
    lower = sum(character.islower() for character in text)
    # Words joined by hyphens have few digits and long runs of letters.
    changes = sum(_kind(first) != _kind(second) for first, second in itertools.pairwise(text))
    return (digits >= 3 and digits + upper + lower >= 16 and changes >= 6) or (
        upper >= 5 and lower >= 5 and changes >= 8
    )


def _kind(character: str) -> int:
    return 0 if character.isdigit() else 1 if character.isupper() else 2 if character.islower() else 3
