"""How sure is a share of right answers? Intervals and tests, as plain functions of numpy arrays.

Two populations, two intervals. *More questions of these same tasks*: the questions are a sample, the tasks are not, and
Wilson's interval answers (it also is right near 0% and 100%, and the only one there is for a single task). *More tasks
like these*, which is what the paper's 37 held-out tasks stand for: tasks are the sample, and questions within them.
Questions of a task are right or wrong together, so 400 questions about 8 tasks say less than 400 independent ones. The
two-level bootstrap draws tasks with replacement, then questions within each drawn task.
"""
import math

import numpy as np

RESAMPLES = 2000
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # 97.5% quantiles of t for 1, 2, .. degrees of freedom


def wilson(right: float, total: int) -> tuple[float, float]:
    """95% interval of a share (E. B. Wilson 1927): sensible also near 0 and 1 and for few cases."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, right / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, (centre - half) / (1 + z * z / total)), min(1.0, (centre + half) / (1 + z * z / total))


def resampled_means(groups: list[np.ndarray], seed: int = 0, resamples: int | None = None) -> np.ndarray:
    """Means (resamples,) over all values of `groups` (a task's questions each), drawn again on both levels."""
    rng, resamples = np.random.default_rng(seed), resamples or RESAMPLES
    chosen = rng.integers(len(groups), size=(resamples, len(groups)))
    sums, counts = np.zeros(chosen.shape), np.zeros(chosen.shape)
    for index, values in enumerate(groups):
        slots = chosen == index
        sums[slots] = values[rng.integers(len(values), size=(int(slots.sum()), len(values)))].sum(1)
        counts[slots] = len(values)
    return sums.sum(1) / counts.sum(1)


def two_level(groups: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean for more tasks like these; groups: a task's values each, at least two tasks.

    Percentiles of the bootstrap, stretched about the mean because few tasks look more alike than they are: by Student's
    t instead of the normal distribution, and by sqrt(K / (K - 1)), as the bootstrap divides by K. Seeded.
    """
    tasks, mean = len(groups), float(np.concatenate(groups).mean())
    # Relative to the normal quantile; beyond the table about 1 + 1.2 / degrees of freedom.
    student = STUDENT[tasks - 2] / 1.96 if tasks - 2 < len(STUDENT) else 1 + 1.2 / (tasks - 1)
    stretch = student * math.sqrt(tasks / (tasks - 1))
    low, high = np.percentile(resampled_means(groups, seed), (2.5, 97.5))
    return mean - stretch * (mean - float(low)), mean + stretch * (float(high) - mean)


def accuracy_interval(groups: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95% interval of a share in [0, 1] for more tasks like these; for a single task Wilson's, for more of its
    questions (one task says nothing about others). Never narrower than Wilson's: all right is not certainly right."""
    right, total = float(sum(values.sum() for values in groups)), sum(map(len, groups))
    low, high = wilson(right, total)
    if len(groups) > 1:
        wide = two_level(groups, seed)
        low, high = max(0.0, min(low, wide[0])), min(1.0, max(high, wide[1]))
    return low, high


def sign_test(better: int, worse: int) -> float:
    """Exact two-sided p-value of so many questions better and worse, if either were as likely (McNemar's test, exact)."""
    total, extreme = better + worse, max(better, worse)
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(extreme, total + 1)) / 2 ** total)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Is one of k answers right? Unbiased from n >= k samples with c right: 1 - C(n - c, k) / C(n, k)."""
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)
