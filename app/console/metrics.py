"""What the console counts (Prometheus)."""

from __future__ import annotations

from prometheus_client import Counter

REFUSALS = Counter(
    "postern_console_refusals_total",
    "Requests the console refused, by reason: forged forms and callbacks, wrong roles, bad input.",
    ["reason"],
)
SIGN_INS = Counter("postern_console_sign_ins_total", "Completed sign-ins, by provider.", ["provider"])
