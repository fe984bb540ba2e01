"""The text of `loopmark list`."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate


def listing(document: Mapping[str, Any]) -> str:
    """Render what exists, as `loopmark list --json` gives it: `contenders`, `loops`, `benchmarks`, and which failed."""
    rows = []
    for each in document["contenders"]:
        versions = ", ".join(f"{name} {version}" for name, version in (each["versions"] or {}).items())
        note = each["reason"] or ("" if each["fork_safe"] else "runs in fresh processes")
        rows.append((each["name"], each["status"], ", ".join(each["features"]), versions, note))
    parts = [
        tabulate(rows, headers=("contender", "status", "features", "versions", "note"), tablefmt="simple"),
        "loops: " + ", ".join(document["loops"]),
    ]
    for name, each in document["benchmarks"].items():
        cases = list(each["cases"])
        parts.append(
            f"{name}: {each['question']}\n"
            + (f"  cases (-w): {', '.join(cases)}\n" if cases != [name] else "")
            + f"  at a time (-c): {', '.join(map(str, each['concurrencies']))}; "
            + (f"bursts (-n without -c): {', '.join(map(str, each['bursts']))}; " if each["bursts"] else "")
            + f"roles (--role): {', '.join(each['roles'])}"
        )
    parts += [f"{name} failed: {reason}" for name, reason in document["failed_benchmarks"].items()]
    return "\n\n".join(parts)
