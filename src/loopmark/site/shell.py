"""What is around every page: the head, that nothing is fetched, and how to get by."""

import json
from typing import Any

from loopmark.site.html import Child, Html, tag

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""The browser itself keeps the page from any request beyond its own folder, and from running what is in its data."""

MARK = "<!-- Written by `loopmark publish`: whatever is changed here by hand is lost. -->"
"""How a page of ours begins, after its first line."""


def page(
    *, title: str, heading: Child, navigation: Child, body: Child, data: Any, root: str, script: bool = True
) -> str:
    """Put a page together; `root` leads from it to the site's folder, and `data` is what its script reads."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("link", rel="stylesheet", href=f"{root}assets/report.css"),
        *([tag("script", src=f"{root}assets/vega.js", defer=True)] if script else []),
        tag("script", src=f"{root}assets/report.js", defer=True),
    ]
    top = tag(
        "header",
        tag("nav", navigation, aria_label="Pages"),
        tag("button", "Dark", id="theme", type="button", hidden=True),
        tag("h1", heading),
    )
    content = [
        tag("a", "Skip to the results", class_="skip", href="#main"),
        top,
        tag("main", body, id="main", tabindex="-1"),
        tag("p", id="status", class_="unseen", role="status"),
        tag("script", Html(_embedded(data)), type="application/json", id="data"),
    ]
    whole = tag("html", tag("head", head), "\n", tag("body", content), lang="en")
    return f"<!doctype html>\n{MARK}\n{whole}\n"


def _embedded(data: Any) -> str:
    """Write JSON that may stand in a page: nothing in it ends the element that it is in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
