"""docs/migration.md: both sides of every row, run and compared; for what cannot be installed, its formula by hand."""

import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from scipy.special import log_softmax

import jsoftmax
from tests import inputs, tolerance

COMPILE_LIGHTLY = "fast lane"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "migration.md"
ROW = re.compile(r"^\| `(.+)` \| `(.+)` \|$", re.MULTILINE)
ROWS = [r for r in ROW.findall(PAGE.read_text(encoding="utf-8")) if r[1].startswith("js.")]
BOUND = tolerance.Bound(256, 4)
TORCH = ("F.", "torch.")
IN_FLOAT32 = "jax.nn.dot_product_attention"  # its softmax, of float64 scores too
N, C, D = 6, 5, 4

q = np.abs(inputs.cotangent((N, C), 61)) + 0.05
GIVEN = {
    "x": 2 * inputs.cotangent((N, C), 60),
    "z": inputs.cotangent((N, C), 62),
    "y": np.array([0, 1, 4, 2, 1, 3]),
    "q": q / q.sum(1, keepdims=True),
    "c": np.abs(inputs.cotangent((C,), 63)) + 0.1,
    "m": (np.arange(N * C).reshape(N, C) % 3) > 0,
    "b": np.abs(inputs.cotangent((N, C), 64)) + 0.1,
    "T": 1.7,
    "h": inputs.cotangent((N, D), 65),
    "W": 20 * inputs.cotangent((D, C), 66),
    "maps": inputs.cotangent((2, C, 3, 4), 67),
    "places": np.arange(24).reshape(2, 3, 4) % C,
    "Q": inputs.cotangent((2, 5, 4, 8), 68),
    "K": inputs.cotangent((2, 5, 4, 8), 69),
    "V": inputs.cotangent((2, 5, 4, 8), 70),
}


def losses(x, y):
    return -np.take_along_axis(log_softmax(x, -1), y[..., None], -1)[..., 0]


def of_maps(maps, places):
    return losses(np.moveaxis(maps, 1, -1), places)


def liger(x, y):
    kept = losses(x, y) + 0.01 * scipy.special.logsumexp(x, -1) ** 2
    return kept[y != 1].mean()


BY_HAND = {  # left side, to its first bracket: what it computes, in NumPy
    "tf.nn.softmax(": lambda x, **_: scipy.special.softmax(x, -1),
    "tf.reduce_logsumexp(": lambda x, **_: scipy.special.logsumexp(x, -1),
    "tf.nn.sparse_softmax_cross_entropy_with_logits(": lambda x, y, **_: losses(x, y),
    "tf.nn.softmax_cross_entropy_with_logits(": lambda x, q, **_: -(q * log_softmax(x, -1)).sum(-1),
    "tf.keras.losses.SparseCategoricalCrossentropy(": lambda x, y, **_: losses(x, y).mean(),
    "LigerCrossEntropyLoss(": lambda x, y, **_: liger(x, y),
    "LigerFusedLinearCrossEntropyLoss(": lambda h, W, y, **_: losses(h @ W, y).mean(),
    "cut_cross_entropy.linear_cross_entropy(": lambda h, W, y, **_: losses(30 * np.tanh(h @ W / 30), y).mean(),
    "Softmax { axis: 1 }": lambda maps, **_: scipy.special.softmax(maps, 1),
    "SoftmaxWithLoss { softmax_param": lambda maps, places, **_: of_maps(maps, places).mean(),
    "SoftmaxWithLoss { loss_param { ignore_label": lambda maps, places, **_: of_maps(maps, places)[places != 1].mean(),
    "SoftmaxWithLoss { loss_param { normalization": lambda maps, places, **_: of_maps(maps, places).sum() / 2,
}


def there(code):
    """The result of the left side."""
    by_hand = [f for start, f in BY_HAND.items() if code.startswith(start)]
    if by_hand:
        return by_hand[0](**GIVEN)
    if not code.startswith(TORCH):
        import optax

        names = {"jax": jax, "optax": optax, "scipy": scipy, "np": np}
        return eval(code, names | {k: jnp.asarray(v) if k != "T" else v for k, v in GIVEN.items()})
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is an optional witness")
    import torch

    names = {"torch": torch, "F": torch.nn.functional}
    return eval(code, names | {k: torch.tensor(v) if k != "T" else v for k, v in GIVEN.items()}).numpy()


@pytest.mark.parametrize(("old", "new"), ROWS, ids=[old for old, _ in ROWS])
def test_both_sides_agree(old, new):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        here = {k: jnp.asarray(v) if k != "T" else v for k, v in GIVEN.items()}
        found = np.asarray(eval(new, {"js": jsoftmax, "jax": jax, "jnp": jnp} | here))
        expected = np.asarray(there(old))
    assert found.shape == expected.shape
    assert found.dtype == np.float64
    live = np.isfinite(expected)
    assert np.array_equal(found[~live], expected[~live], equal_nan=True) and live.any()
    digits = np.float32 if old.startswith(IN_FLOAT32) else np.float64
    tolerance.check(found[live].astype(digits), expected[live], digits, BOUND, new, scale=np.abs(expected[live]).max())


def test_the_page_has_rows():
    table_rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "js." in line and line[0] == "|"]
    assert len(ROWS) == len(table_rows) > 40
