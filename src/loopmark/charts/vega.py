"""The plotting library: Vega-Lite, which vl-convert-python brings with all that it needs; nothing is fetched."""

import json
from typing import Any

from loopmark.charts.chart import Chart
from loopmark.errors import UnavailableError


def svg(chart: Chart) -> str:
    """Draw a chart; the same one gives the same text with one version of vl-convert-python.

    Raises UnavailableError, which says what to install, where that is missing.
    """
    # In this order whatever way the record came here: the drawing depends on it.
    drawn: str = _library().vegalite_to_svg(json.dumps(chart.spec))
    return drawn if drawn.endswith("\n") else f"{drawn}\n"


def bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`; raises as `svg` does."""
    library = _library()
    versions = (
        f"Vega {library.get_vega_version()}, Vega-Lite {library.get_vegalite_versions()[-1]}, "
        f"Vega-Embed {library.get_vega_embed_version()}"
    )
    # In a function of its own: its names would be the page's, else.
    return f"/* {versions}: see vega.LICENSE.txt */\n(() => {{\n{library.javascript_bundle()}\n}})();\n"


def _library() -> Any:
    try:
        import vl_convert  # noqa: PLC0415 - an extra, and large
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "charts need vl-convert-python, which is not installed: type pip install 'loopmark[publish]'"
        ) from error
    return vl_convert
