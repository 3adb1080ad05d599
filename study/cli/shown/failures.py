"""Why points of a study failed."""

from __future__ import annotations

from study.cli.terminal.printing import say


def say_failures(root: str, keys: set[str] | None) -> None:
    """Print the most frequent reasons, each with how many of the points failed for it; of all recorded points for None."""
    import analysis

    table = analysis.load(root, columns=["key", "status", "reason"])
    reasons: dict[str, int] = {}
    for row in table.to_pylist():
        if row["status"] == "failed" and (keys is None or row["key"] in keys):
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:10]:
        say(f"failed   {count:,}: {' '.join(reason.split())[:300]}")
