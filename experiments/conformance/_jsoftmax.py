"""The adapter of this library: inputs and options of a case are its arguments."""

import jsoftmax
from experiments.conformance import _vjp

OPERATORS = (
    *("softmax", "log_softmax", "logsumexp", "logmeanexp", "entropy", "kl_divergence", "boltzmann", "free_energy"),
    *("softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"),
)


def _call(name):
    return lambda arrays, options: getattr(jsoftmax, name)(**arrays, **options)


FUNCTIONS = {name: _call(name) for name in OPERATORS}


def adapter(compiled):
    return {name: _vjp.member(f, compiled) for name, f in FUNCTIONS.items()}
