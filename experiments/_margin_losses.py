"""The losses of the margin experiment: their operators, their options, and how the margin comes."""

from jsoftmax import (
    am_softmax_loss,
    arcface_loss,
    cosface_loss,
    large_margin_softmax_loss,
    linear_softmax_cross_entropy,
    margin_annealing,
    sphereface_loss,
)

SOFTMAX, COSINE, LARGE, SPHERE = "softmax", "cosine softmax", "L-Softmax", "SphereFace"
COSFACE, AM, ARCFACE = "CosFace", "AM-Softmax", "ArcFace"
OPERATORS = {
    COSINE: cosface_loss,
    LARGE: large_margin_softmax_loss,
    SPHERE: sphereface_loss,
    COSFACE: cosface_loss,
    AM: am_softmax_loss,
    ARCFACE: arcface_loss,
}
LOSSES = (SOFTMAX, *OPERATORS)
# λ at each step; faster than in the papers, whose trainings are longer
ANNEALING = {
    LARGE: {"base": 1000.0, "gamma": 0.02, "power": 4.0, "minimum": 0.0},
    SPHERE: {"base": 1000.0, "gamma": 1.0, "power": 1.0, "minimum": 5.0},
}
# ten prototypes in a plane are 36° apart: no margin of an angle above 0.63 and none of a cosine above 0.19 can be had
PLANE = {
    SOFTMAX: {},
    COSINE: {"scale": 16.0, "margin": 0.0},
    LARGE: {"margin": 4},
    SPHERE: {"margin": 4},
    COSFACE: {"scale": 64.0, "margin": 0.1},
    AM: {"scale": 30.0, "margin": 0.1},
    ARCFACE: {"scale": 64.0, "margin": 0.3},
}
# those of the papers, which are the operators' defaults
SPACE = {
    SOFTMAX: {},
    COSINE: {"scale": 30.0, "margin": 0.0},
    LARGE: {"margin": 4},
    SPHERE: {"margin": 4},
    COSFACE: {"scale": 64.0, "margin": 0.35},
    AM: {"scale": 30.0, "margin": 0.35},
    ARCFACE: {"scale": 64.0, "margin": 0.5},
}


def losses_of(names, options):
    """{name: (embeddings, prototypes, labels, step) → mean loss}."""
    return {name: _loss_of(name, options[name]) for name in names}


def _loss_of(name, options):
    if name == SOFTMAX:
        return lambda x, w, labels, step: linear_softmax_cross_entropy(x, w, labels, class_axis=0, reduction="mean")
    operator = OPERATORS[name]
    if name not in ANNEALING:
        return lambda x, w, labels, step: operator(x, w, labels, **options, reduction="mean")
    annealing = margin_annealing(**ANNEALING[name])
    return lambda x, w, labels, step: operator(x, w, labels, **options, annealing=annealing(step), reduction="mean")
