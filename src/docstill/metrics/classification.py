"""How good, how sure, and how rightly sure a classifier is. Plain numpy; definitions in each docstring.

Confidence is the largest probability. Where confidences tie, the documents of a tie count as their mean, so that no
figure depends on the order of the documents. Where classes tie, the first of them is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
FLOOR_DRAWS = 200


def softmax(logits: NDArray[Any]) -> Floats:
    """Probabilities (n, C) of logits (n, C)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def classification_metrics(probabilities: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """All figures of a set of answers.

    Args:
        probabilities: (n, C), rows sum to 1, n and C at least 1.
        labels: (n,), the right classes.

    Returns:
        accuracy; macro_f1; nll: mean −ln of the right class's probability, taken as 1e-12 at least; brier: mean squared
        distance to the one-hot truth, in [0, 2]; ece; ece_equal_mass; ece_floor; aurc; e_aurc: aurc less the best order's;
        augrc; auroc_failure; coverage_at_5_risk.
    """
    found = figures_without_floor(probabilities, labels)
    floor = ece_floor(np.asarray(probabilities, dtype=np.float64).max(axis=1))
    keys = list(found)
    keys.insert(keys.index("ece_equal_mass") + 1, "ece_floor")
    return {key: floor if key == "ece_floor" else found[key] for key in keys}


def figures_without_floor(probabilities: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """As `classification_metrics`, without ``ece_floor``, which costs as much as all others and is no figure of the answers."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = answers == labels
    right = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    onehot = np.eye(probabilities.shape[1])[labels]
    area = aurc(confidence, correct)
    return {
        "accuracy": float(correct.mean()),
        "macro_f1": macro_f1(answers, labels),
        "nll": float(-np.log(right).mean()),
        "brier": float(((probabilities - onehot) ** 2).sum(axis=1).mean()),
        "ece": ece(confidence, correct),
        "ece_equal_mass": ece_equal_mass(confidence, correct),
        "aurc": area,
        "e_aurc": area - oracle_aurc(correct),
        "augrc": augrc(confidence, correct),
        "auroc_failure": auroc(confidence, correct),
        "coverage_at_5_risk": coverage_at_risk(confidence, correct, 0.05),
    }


def macro_f1(answers: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean F1 over the classes that occur among the right answers or the given ones."""
    scores = []
    for label in np.union1d(answers, labels):
        hits = np.sum((answers == label) & (labels == label))
        scores.append(2 * hits / (np.sum(answers == label) + np.sum(labels == label)))
    return float(np.mean(scores))


def per_class_accuracy(probabilities: NDArray[Any], labels: NDArray[Any], names: Sequence[str]) -> dict[str, float]:
    """Share of each class's documents that were recognised; classes without documents are left out."""
    answers = probabilities.argmax(axis=1)
    return {
        name: float((answers[labels == index] == index).mean())
        for index, name in enumerate(names)
        if (labels == index).any()
    }


def ece(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3) in 15 bins of equal width.

    A bin holds its upper edge, not its lower one, as in the paper; its confidence is the mean of its documents'.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(confidence))


def ece_equal_mass(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Expected calibration error in 15 bins of equally many documents; documents of equal confidence share a bin.

    Where a model is nearly always sure, bins of equal width hold nearly all documents in one; these do not
    (Nixon et al. 2019, arXiv 1904.01685, section 3.3).
    """
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    bins = np.minimum((BINS * middle / len(confidence)).astype(int), BINS - 1)[group]
    gap = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(confidence))


def ece_floor(confidence: NDArray[Any]) -> float:
    """The ECE that a perfectly calibrated model with these confidences would show at this n, by chance alone.

    Mean over `FLOOR_DRAWS` draws of correctness ~ Bernoulli(confidence), from a fixed seed.
    """
    rng = np.random.default_rng(0)
    confidence = np.sort(confidence)  # else the same documents in another order would meet other draws
    return float(np.mean([ece(confidence, rng.random(len(confidence)) < confidence) for _ in range(FLOOR_DRAWS)]))


def _failures(confidence: NDArray[Any], correct: NDArray[Any]) -> Floats:
    """Failures in the order of falling confidence; documents of equal confidence share their mean."""
    values, group = np.unique(-confidence, return_inverse=True)
    mean = np.bincount(group, weights=~correct.astype(bool), minlength=len(values)) / np.bincount(
        group, minlength=len(values)
    )
    failures: Floats = mean[np.sort(group)]
    return failures


def aurc(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Area under the risk-coverage curve (Geifman & El-Yaniv 2017): mean over k of the error rate of the k surest."""
    failures = np.cumsum(_failures(confidence, correct))
    return float((failures / np.arange(1, len(failures) + 1)).mean())


def oracle_aurc(correct: NDArray[Any]) -> float:
    """The AURC of the best order: all right answers surer than all wrong ones. `aurc` is never below it."""
    failures = np.cumsum(np.sort(~correct.astype(bool)))
    return float((failures / np.arange(1, len(failures) + 1)).mean())


def augrc(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Area under the generalised risk-coverage curve (Traub et al. 2024, arXiv 2407.01032): mean risk of undetected failures."""
    failures = _failures(confidence, correct)
    return float(np.cumsum(failures).mean() / len(failures))


def auroc(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Chance that a right answer is surer than a wrong one, ties counting half.

    0.5, the value of a guess, where all answers are right or all are wrong: there is nothing to tell apart.
    """
    hits = correct.astype(bool)
    right, wrong = confidence[hits], np.sort(confidence[~hits])
    if not len(right) or not len(wrong):
        return 0.5
    below = np.searchsorted(wrong, right, side="left") + np.searchsorted(wrong, right, side="right")
    return float(below.sum() / (2 * len(right) * len(wrong)))


def coverage_at_risk(confidence: NDArray[Any], correct: NDArray[Any], risk: float) -> float:
    """The largest share of documents, surest first, whose error rate is at most ``risk``; ties are taken whole or not."""
    order = np.sort(-confidence)
    failures = np.cumsum(_failures(confidence, correct)) / np.arange(1, len(order) + 1)
    whole = np.append(order[1:] != order[:-1], True)
    good = np.flatnonzero((failures <= risk + 1e-12) & whole)
    return float((good[-1] + 1) / len(order)) if len(good) else 0.0


def accepted(confidence: NDArray[Any], correct: NDArray[Any], error_rate: float) -> dict[str, float | None]:
    """The largest ``share``, surest first, with at most that share of errors, and the least confidence in it, ``above``."""
    share = coverage_at_risk(confidence, correct, error_rate)
    count = round(share * len(confidence))
    return {"share": share, "above": float(np.sort(confidence)[-count]) if count else None}
