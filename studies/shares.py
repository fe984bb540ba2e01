"""Shares of comparisons that depend on each other within a campaign, with intervals that know it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `total`, with a 95 % interval. `design_effect`: so many comparisons tell as much as one independent."""

    hits: int
    total: int
    low: float
    high: float
    design_effect: float

    @property
    def share(self) -> float:
        """The estimate."""
        return self.hits / self.total

    def __str__(self) -> str:
        """Show it in percent."""
        return f"{100 * self.share:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def clustered_share(clusters: Sequence[tuple[int, int]], at_least: float = 1.0) -> Share:
    """Estimate a share from (hits, comparisons) of each cluster, whose comparisons depend on each other.

    The interval is the exact binomial one (C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413) on the
    effective number of comparisons: the actual one by the design effect, reduced for what k clusters know about their
    own variance (E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", Survey Methodology 24 (1998) 193-201). The variance is the linearised
    one of a ratio over clusters. Where it is zero, or tells less than `at_least`, that is the design effect.
    """
    hits, sizes = (np.array(column, dtype=float) for column in zip(*clusters, strict=True))
    number, total = len(clusters), sizes.sum()
    share = hits.sum() / total
    effect = at_least
    if number > 1:
        residuals = (hits - share * sizes) / total
        variance = number / (number - 1) * (residuals**2).sum()
        if variance > 0:
            known = stats.t.ppf(0.5 + LEVEL / 2, number - 1) / stats.t.ppf(0.5 + LEVEL / 2, total - 1)
            effect = max(effect, variance * total / (share * (1 - share)) * known**2)
    effective = total / effect
    low, high = clopper_pearson(share * effective, effective)
    return Share(hits=int(hits.sum()), total=int(total), low=low, high=high, design_effect=float(effect))


def clopper_pearson(hits: float, total: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a binomial share, as quantiles of beta distributions: counts may be broken."""
    tail = (1 - LEVEL) / 2
    low = float(stats.beta.ppf(tail, hits, total - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, total - hits)) if hits < total else 1.0
    return low, high


def bootstrapped_share(clusters: Sequence[tuple[int, int]], seed: int = 1) -> tuple[float, float] | None:
    """Return the percentile interval of a share over resampled clusters; None with one cluster.

    C. A. Field and A. H. Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69 (2007)
    369-390. Too short with few clusters: a second opinion only.
    """
    if len(clusters) < 2:
        return None
    hits, sizes = (np.array(column, dtype=float) for column in zip(*clusters, strict=True))
    found = stats.bootstrap(
        (hits, sizes),
        lambda some, of, axis: some.sum(axis=axis) / of.sum(axis=axis),
        paired=True,
        method="percentile",
        confidence_level=LEVEL,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
