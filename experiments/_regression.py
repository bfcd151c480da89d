"""Softmax regression trained with optax and our loss, and the same objective minimised by scikit-learn.

    objective(W, c)  =  mean CE(images W + c, labels)  +  λ ‖W‖² / 2        λ = 1 / (C N),  no penalty on the bias c

which is scikit-learn's `LogisticRegression(C)` divided by C N. It is convex; the optimum is one point up to a constant
added to every bias, which changes no probability.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import logsumexp
from tqdm import tqdm

from jsoftmax import softmax_cross_entropy_with_integer_labels, weighted_mean

_OPTIMISER = optax.lbfgs()


class Fit(NamedTuple):
    """Parameters {"weight" [64, 10], "bias" [10]}, the objective at each iterate, the last gradient's norm."""

    parameters: dict
    history: np.ndarray
    gradient_norm: float


def logits(parameters, images):
    return images @ parameters["weight"] + parameters["bias"][None, :]


def mean_loss(logits, labels, beta=1.0):
    return weighted_mean(softmax_cross_entropy_with_integer_labels(logits, labels, beta=beta))[0]


@jax.jit
def _step(parameters, state, images, labels, penalty):
    def objective(parameters):
        return mean_loss(logits(parameters, images), labels) + penalty / 2 * jnp.sum(parameters["weight"] ** 2)

    value, gradient = optax.value_and_grad_from_state(objective)(parameters, state=state)
    updates, state = _OPTIMISER.update(gradient, state, parameters, value=value, grad=gradient, value_fn=objective)
    return optax.apply_updates(parameters, updates), state, value, optax.tree.norm(gradient)


def fit(images, labels, penalty, *, max_steps, tolerance):
    """L-BFGS from zero until the gradient's norm is below `tolerance`."""
    classes = int(labels.max()) + 1
    parameters = {"weight": jnp.zeros((images.shape[1], classes)), "bias": jnp.zeros(classes)}
    state, history = _OPTIMISER.init(parameters), []
    with tqdm(range(max_steps), desc=f"training, penalty {penalty:.2g}", unit="step", leave=False) as steps:
        for _ in steps:
            before = parameters  # those that `value` and `norm` belong to
            parameters, state, value, norm = _step(parameters, state, images, labels, jnp.float32(penalty))
            history.append(float(value))
            steps.set_postfix_str(f"objective {float(value):.7f}, gradient {float(norm):.1e}", refresh=False)
            if norm < tolerance:
                break
    return Fit(before, np.float32(history), float(norm))


def scikit_learn_fit(images, labels, inverse_penalty):
    """Parameters that `LogisticRegression(C=inverse_penalty)` finds, in float64."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse_penalty, tol=1e-10, max_iter=20_000).fit(images.astype(np.float64), labels)
    return {"weight": model.coef_.T, "bias": model.intercept_}


def exact_objective(parameters, images, labels, penalty):
    """The objective in float64 by SciPy: one judge for both optimisers, independent of our loss."""
    weight, bias = (np.asarray(parameters[name], np.float64) for name in ("weight", "bias"))
    scores = images.astype(np.float64) @ weight + bias
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(labels)), labels]
    return losses.mean() + penalty / 2 * np.sum(weight**2)
