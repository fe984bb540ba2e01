"""How far a simulated share may lie from the true one: binomial quantiles, so that no threshold is of taste."""

from scipy.stats import binom

RISK = 1e-4
"""Chance, on either side, that correct code falls outside. Seeds are fixed: what passes once passes always."""


def fewest(trials: int, share: float) -> int:
    """Return the number that is undercut with the chance RISK at most, where each trial succeeds with that share."""
    return int(binom.ppf(RISK, trials, share))


def most(trials: int, share: float) -> int:
    """Return the number that is exceeded with the chance RISK at most."""
    return int(binom.ppf(1 - RISK, trials, share))
