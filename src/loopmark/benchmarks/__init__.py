"""The built-in benchmarks, one module per question.

In a wheel the modules lie here; in a checkout they stay in `benchmarks/` at its root, which is mounted below.
"""

from pathlib import Path

_checkout = Path(__file__).parents[3]
if (_checkout / "pyproject.toml").is_file() and (_checkout / "benchmarks").is_dir():
    __path__.append(str(_checkout / "benchmarks"))
