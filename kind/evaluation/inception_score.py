"""Inception Score, and the same formula on another classifier's logits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kind.errors import UserError
from kind.evaluation.pairwise import feature_matrix

ORDER_SEED = 2020  # torch-fidelity's, so that split scores are its scores


def inception_score(logits: np.ndarray, splits: int = 1) -> float:
    """exp(mean_x KL(p(y|x) || p(y))), the mean over `splits` equal parts.  [N, K] -> number in [1, K].

    With more than one split the rows are put in a fixed random order first: samples that are sorted by class would
    otherwise fill a split with one class.  The score grows with the size of a split: compare equal counts only.
    Raises UserError for fewer rows than splits or non-finite logits.  Source: Salimans et al. 2016, section 4.
    """
    if splits < 1:
        raise UserError(f"splits must be at least 1; got {splits}")
    logits = feature_matrix(logits, minimum=splits).astype(np.float64)
    if splits > 1:
        logits = logits[np.random.RandomState(ORDER_SEED).permutation(len(logits))]
    bounds = [index * len(logits) // splits for index in range(splits + 1)]
    return float(np.mean([_score(logits[start:stop]) for start, stop in pairwise(bounds)]))


def _score(logits: np.ndarray) -> float:
    log_conditional = logits - logits.max(axis=1, keepdims=True)
    log_conditional -= np.log(np.exp(log_conditional).sum(axis=1, keepdims=True))
    conditional = np.exp(log_conditional)
    # p(y) as a log of a mean of exponentials: a class that no image shows stays finite.
    peak = log_conditional.max(axis=0)
    log_marginal = peak + np.log(np.exp(log_conditional - peak).mean(axis=0))
    return float(np.exp((conditional * (log_conditional - log_marginal)).sum(axis=1).mean()))
