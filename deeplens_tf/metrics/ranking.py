"""How well scores rank the images of a class above the others: areas and average precision."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from deeplens_tf.metrics.weighted import FloatArray


def area_under_curve(is_positive: NDArray[np.bool_], scores: FloatArray) -> float:
    """Area under the ROC curve by ranks: P(positive above negative) + P(tie) / 2.

    The Mann-Whitney form of the area (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).

    Args:
        is_positive: shape (n,).
        scores: shape (n,), higher for positives.

    Returns:
        The area; NaN where positives or negatives are absent.
    """
    positives = int(is_positive.sum())
    pairs = positives * (len(is_positive) - positives)
    if not pairs:
        return np.nan
    wins = rankdata(scores)[is_positive].sum() - positives * (positives + 1) / 2
    return float(wins / pairs)


def area_influence(is_positive: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """What each image adds to the error of the area: its placement among the other kind.

    The sum over the images of the product of two areas' influences estimates their covariance
    (DeLong, DeLong & Clarke-Pearson 1988, doi:10.2307/2531595).

    Args:
        is_positive: shape (n,), with positives and negatives.
        scores: shape (n,).

    Returns:
        Shape (n,).
    """
    ranks, influence = rankdata(scores), np.empty(len(scores))
    for kind, sign in ((is_positive, 1.0), (~is_positive, -1.0)):
        others_below = ranks[kind] - rankdata(scores[kind])  # ties count half
        placement = sign * others_below / (~kind).sum()
        influence[kind] = (placement - placement.mean()) / kind.sum()
    return influence


def average_precision(is_positive: NDArray[np.bool_], scores: FloatArray) -> float:
    """Mean of the purity over the positives, each selected with all that score as high or higher.

    The area under the precision-recall curve without interpolation, as scikit-learn's.

    Args:
        is_positive: shape (n,).
        scores: shape (n,), higher for positives.

    Returns:
        The average precision; NaN where positives are absent, or negatives: it is 1 for any scores
        then.
    """
    if is_positive.all() or not is_positive.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_ties = np.append(ordered[1:] != ordered[:-1], True)
    hits = np.cumsum(is_positive[order])[last_of_ties]
    purity = hits / (np.flatnonzero(last_of_ties) + 1)
    return float(np.diff(hits, prepend=0) @ purity / hits[-1])
