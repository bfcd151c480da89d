"""The MNI152 brain at 2 mm, out of the nilearn package: an average of 152 real MRI scans, with the probability of grey
and of white matter in every voxel. Nothing is downloaded.
"""

from typing import NamedTuple

import numpy as np

CLASSES = ("other", "grey matter", "white matter")
IGNORED = 255
_LOWEST, _HIGHEST = 16, 68  # axial slices with enough of the brain in them
_TEST = (
    38,
    46,
)  # a slab out of the middle; the two slices on either side of it are left out, they look too much like it


class Slices(NamedTuple):
    """Axial slices, channels first."""

    image: np.ndarray  # [N, 1, 96, 112] float32, zero mean and unit variance inside the head
    labels: np.ndarray  # [N, 96, 112] uint8: the likeliest class, IGNORED outside the brain
    soft: np.ndarray  # [N, 3, 96, 112] float32: probabilities of the classes, 0 outside the brain


def load_slices():
    """(training slices, test slices)."""
    try:
        from nilearn import datasets
    except ImportError as error:
        raise ImportError("load_slices needs nilearn: pip install 'jsoftmax[experiments]'.") from error
    volumes = [
        load(resolution=2).get_fdata().astype(np.float32)
        for load in (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    ]
    t1, grey, white = (np.moveaxis(v[1:97, 2:114, _LOWEST:_HIGHEST], -1, 0) for v in volumes)
    brain = grey + white > 0.1
    soft = np.stack([np.clip(1 - grey - white, 0, 1), grey, white], 1)
    soft = np.where(brain[:, None], soft / soft.sum(1, keepdims=True), 0).astype(np.float32)
    labels = np.where(brain, soft.argmax(1), IGNORED).astype(np.uint8)
    head = t1 > 0.05  # of a maximum of 1; what lies below is resampling noise
    image = np.where(head, (t1 - t1[head].mean()) / t1[head].std(), 0)[:, None].astype(np.float32)
    z = np.arange(_LOWEST, _HIGHEST)
    test = (z >= _TEST[0]) & (z < _TEST[1])
    train = (z < _TEST[0] - 2) | (z >= _TEST[1] + 2)
    return tuple(Slices(image[part], labels[part], soft[part]) for part in (train, test))
