"""Inception Score, and the same formula on another classifier's logits."""

from __future__ import annotations

import numpy as np

from kind.errors import UserError
from kind.evaluation.pairwise import feature_matrix

SPLIT_SIZE = 5000  # of ADM's evaluator


def inception_score(logits: np.ndarray, split_size: int = SPLIT_SIZE) -> float:
    """exp(mean_x KL(p(y|x) || p(y))), the mean over parts of `split_size` rows.  [N, K] -> number in [1, K].

    As ADM's evaluator does it: consecutive parts in the order of the rows, which is not changed, and a shorter last
    part counts as much as the others.  So samples that are sorted by class score low where they fill more than one
    part.  The score grows with the size of a part: compare equal counts only.
    Raises UserError for no rows, parts of less than one row or non-finite logits.
    Source: Salimans et al. 2016, section 4; openai/guided-diffusion, evaluations/evaluator.py.
    """
    if split_size < 1:
        raise UserError(f"split_size must be at least 1; got {split_size}")
    logits = feature_matrix(logits)
    parts = [logits[start : start + split_size] for start in range(0, len(logits), split_size)]
    return float(np.mean([_score(part.astype(np.float64)) for part in parts]))


def _score(logits: np.ndarray) -> float:
    log_conditional = logits - logits.max(axis=1, keepdims=True)
    log_conditional -= np.log(np.exp(log_conditional).sum(axis=1, keepdims=True))
    conditional = np.exp(log_conditional)
    # p(y) as a log of a mean of exponentials: a class that no image shows stays finite.
    peak = log_conditional.max(axis=0)
    log_marginal = peak + np.log(np.exp(log_conditional - peak).mean(axis=0))
    return float(np.exp((conditional * (log_conditional - log_marginal)).sum(axis=1).mean()))
