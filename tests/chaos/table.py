"""What was injected and survived, as a table to print."""

from __future__ import annotations

import statistics

from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind
from tests.chaos.everything import Outcome, Plan

_FAULTS = {
    FaultKind.THROTTLE: "429 Too Many Requests",
    FaultKind.UNAVAILABLE: "503 Service Unavailable",
    FaultKind.TIMEOUT_AFTER: "cut off after the request took effect",
    FaultKind.LOSE: "notification lost",
    FaultKind.DUPLICATE: "notification doubled",
    FaultKind.REORDER: "notification held back, so out of order",
}
_WIDTHS = (45, 9, 9, 9)


def table(plan: Plan, outcome: Outcome) -> str:
    """Every fault with how often it was injected, what became of the mail, and how long it took."""
    verdict = "NOT survived" if outcome.problems else "survived"
    lines = [_row("injected", "Microsoft", "Google", "all", "")]
    for kind, name in _FAULTS.items():
        counts = [outcome.report.faults.get((provider, kind.value), 0) for provider in Provider]
        lines.append(_row(name, *map(str, counts), str(sum(counts)), verdict))
    expired = [outcome.report.expired.get(provider, 0) for provider in Provider]
    lines.append(_row("cursor expired", *map(str, expired), str(sum(expired)), verdict))
    pace = f", every {plan.kill_every:g} s" if plan.kills is None else ""
    lines.append(_row(f"worker killed with -9{pace}", "", "", str(outcome.kills), verdict))
    crashes = sum(outcome.restarts > number for number in range(0, plan.restarts, 2))
    lines.append(_row("PostgreSQL killed and restarted", "", "", str(crashes), verdict))
    lines.append(_row("PostgreSQL shut down and restarted", "", "", str(outcome.restarts - crashes), verdict))
    lines.append("")
    lines.append(_row("requests to the provider", *(str(outcome.report.requests.get(each, 0)) for each in Provider)))
    for name, share in (("median", 0.5), ("90 of 100", 0.9), ("99 of 100", 0.99)):
        times = [_quantile(outcome.waits.get(provider, []), share) for provider in Provider]
        lines.append(_row(f"seconds until protected, {name}", *times))
    lines.append(_row("jobs taken up from dead workers", "", "", str(outcome.taken_up)))
    rate = len(outcome.report.found) / max(outcome.seconds, 1)
    lines.append(
        f"{plan.messages} messages in {2 * plan.mailboxes} mailboxes, {len(outcome.report.found)} found, "
        f"{plan.workers} workers, {outcome.seconds:.0f} s ({rate:.1f} messages/s), journal {outcome.states}"
    )
    return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in outcome.problems)])


def _row(*cells: str) -> str:
    first, *numbers = cells[: len(_WIDTHS)]
    shown = "".join(f"{number:>{width + 2}}" for number, width in zip(numbers, _WIDTHS[1:], strict=False))
    return f"{first:{_WIDTHS[0]}}{shown}  {''.join(cells[len(_WIDTHS) :])}".rstrip()


def _quantile(times: list[float], share: float) -> str:
    if len(times) < 2:
        return "-"
    return f"{statistics.quantiles(times, n=100, method='inclusive')[round(share * 100) - 1]:.1f}"
