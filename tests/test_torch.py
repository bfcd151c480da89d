"""torch's cross_entropy as one more witness, where torch is installed: `pip install torch`, and the tests find it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from tests import inputs, tolerance

torch = pytest.importorskip("torch", reason="an optional witness")

X = 2 * inputs.cotangent((4, 5, 3), 40)  # classes on axis 1, as torch wants them
LABELS = np.array([[0, 1, 2], [4, -100, 3], [2, 2, -100], [1, 0, 4]])
SOFT = np.abs(inputs.cotangent(X.shape, 41))
SOFT /= SOFT.sum(1, keepdims=True)
W = np.abs(inputs.cotangent((5,), 42)) + 0.1
BOUND = tolerance.Bound(64, 2)


def agree(actual, expected, what):
    expected = np.asarray(expected)
    tolerance.check(actual, expected, np.float64, BOUND, what, scale=np.abs(expected).max(), gap=8.0)


@pytest.mark.parametrize(
    ("soft", "weighted", "smoothing"), list(itertools.product((False, True), (False, True), (0.0, 0.1, 1.0)))
)
def test_cross_entropy(soft, weighted, smoothing):
    """Unreduced losses, and the gradient of their sum."""
    x = torch.tensor(X, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        x,
        torch.tensor(SOFT if soft else LABELS),
        weight=torch.tensor(W) if weighted else None,
        label_smoothing=smoothing,
        reduction="none",
    )
    theirs.sum().backward()
    options = {"label_smoothing": smoothing, "class_weights": W if weighted else None, "axis": 1}
    with jax.enable_x64(True):
        if soft:
            f = lambda x: jsoftmax.softmax_cross_entropy(x, SOFT, **options)  # noqa: E731
        else:
            f = lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
                x, LABELS, ignore_label=-100, **options
            )
        losses, pull = jax.vjp(f, jnp.asarray(X))
        agree(losses, theirs.detach().numpy(), "losses")
        agree(pull(jnp.ones_like(losses))[0], x.grad.numpy(), "gradient")


def test_the_mean_of_a_map():
    theirs = torch.nn.functional.cross_entropy(torch.tensor(X), torch.tensor(LABELS))
    with jax.enable_x64(True):
        agree(jsoftmax.spatial_softmax_cross_entropy(X, LABELS, ignore_label=-100), theirs.numpy(), "mean")
