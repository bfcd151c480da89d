"""The β sweep as text, from its JSON alone."""

import numpy as np

from experiments._results import numbers


def row_table(part, name):
    """The sweep of one hand-written row at 0, ±∞ and the powers of two from 1/8 on."""
    row = part["rows"][name]
    beta, p, *columns = (
        numbers(values)
        for values in (part["beta"], row["p"], row["off_mass"], row["off_mass_law"], row["entropy"], row["lse_excess"])
    )
    n = len(row["x"])
    with np.errstate(divide="ignore"):
        columns.append(np.log(n) / np.abs(beta))
        octave = np.log2(np.abs(beta))
    headings = ("off-mass", "its law", "entropy", "|lse−ext|", "≤ ln n/|β|")
    lines = [
        f"{name}: x = [{', '.join(f'{value:g}' for value in row['x'])}]",
        " ".join([f"{'β':>6}", f"{'p':^{8 * n - 1}}", *(f"{heading:>11}" for heading in headings)]),
    ]
    for i in np.flatnonzero(np.isinf(octave) | ((octave == np.round(octave)) & (octave >= -3))):
        lines.append(
            " ".join([f"{beta[i]:>6.4g}", *(f"{value:.5f}" for value in p[i]), *(f"{c[i]:>11.4e}" for c in columns)])
        )
    return "\n".join(lines)


def summary(results):
    """Training against scikit-learn, the best temperatures, the decay rate, the gradient of attention."""
    lines = []
    for fit, curve in zip(results["training"], results["temperature"]["curves"], strict=True):
        lines.append(
            f"C = {fit['inverse_penalty']:<5g} objective {fit['final_objective']:.8f} (scikit-learn "
            f"{fit['scikit_learn_objective']:.8f}), held-out accuracy {fit['accuracy']:.4f}, held-out loss "
            f"{curve['loss_at_one']:.4f} at T = 1 and {curve['best_loss']:.4f} at the best, T = "
            f"{curve['best_temperature']:.3f}"
        )
    gap, rate = results["digits"]["gap"], results["digits"]["fitted_rate"]
    deviation = np.abs(np.divide(rate, gap) - 1).max()
    lines.append(f"decay rate of the off-mass of {len(gap)} test images: the gap, to {deviation:.2%}")
    attention = results["attention"]
    for scores in ("raw", "scaled"):
        norms = zip(attention["dimensions"], attention[scores]["gradient_mean"], strict=True)
        lines.append(f"mean ‖∂p/∂x‖, {scores:>6} scores: " + ", ".join(f"d = {d}: {norm:.3f}" for d, norm in norms))
    return "\n".join(lines)
