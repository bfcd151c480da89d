"""scikit-learn's handwritten digits: 1797 real 8×8 images of ten classes. Nothing is downloaded."""

from typing import NamedTuple

import numpy as np


class Digits(NamedTuple):
    """Images [N, 64] scaled to [0, 1], float32; labels [N], int32."""

    train_images: np.ndarray
    test_images: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray


def load_digits(seed, test_share=0.3):
    """The digits, split at random with every class in proportion."""
    try:
        from sklearn import datasets, model_selection
    except ImportError as error:
        raise ImportError("load_digits needs scikit-learn: pip install 'jsoftmax[experiments]'.") from error
    images, labels = datasets.load_digits(return_X_y=True)
    return Digits(
        *model_selection.train_test_split(
            (images / 16).astype(np.float32),
            labels.astype(np.int32),
            test_size=test_share,
            random_state=seed,
            stratify=labels,
        )
    )
