"""Angles between embeddings and prototypes, and between embeddings of pairs: how well they tell who is who."""

import numpy as np

PAIR_BINS = np.linspace(0, 180, 61)
FALSE_ACCEPTS = np.logspace(-4, 0, 65)
JUDGED = 1e-2  # false accepts of the one number that stands for a curve


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def degrees(cosines):
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def to_prototypes(x, prototypes, labels):
    """(angle to the own prototype, least angle to another one), [N] each, in degrees."""
    angles, rows = degrees(unit(x) @ unit(prototypes).T), np.arange(len(labels))
    own = angles[rows, labels]
    angles[rows, labels] = np.inf
    return own, angles.min(1)


def judged(x, prototypes, labels):
    """What is said of test digits: by the angle, and by the product that a linear layer would take."""
    own, other = to_prototypes(x, prototypes, labels)
    return {
        "accuracy": np.mean(own < other),
        "accuracy_of_products": np.mean(np.argmax(x @ prototypes.T, 1) == labels),
        "own_angle": own.mean(),
        "other_angle": other.mean(),
    }


def verified(x, labels):
    """What is said of all pairs of x, which are of one class or of two."""
    first, second = np.triu_indices(len(x), 1)
    cosine, same = (unit(x) @ unit(x).T)[first, second], labels[first] == labels[second]
    accepted = np.argsort(-cosine)
    true, false = np.cumsum(same[accepted]) / same.sum(), np.cumsum(~same[accepted]) / (~same).sum()
    roc = np.interp(FALSE_ACCEPTS, false, true)
    angles = degrees(cosine)
    return {
        "auc": np.trapezoid(true, false),
        "true_accepts_judged": float(np.interp(JUDGED, false, true)),
        "true_accepts": np.round(roc, 4),
        "angle_within": angles[same].mean(),
        "angle_between": angles[~same].mean(),
        "within": np.histogram(angles[same], PAIR_BINS)[0],
        "between": np.histogram(angles[~same], PAIR_BINS)[0],
    }
