"""Mutation testing: the library is broken in known ways, one at a time, and for each a few tests have to fail.

    python -m tests.mutate                      every mutant
    python -m tests.mutate one-hot ties-counted the named ones
    python -m tests.mutate --list               what there is

A mutant is one replacement in one file, made in a temporary copy; the working tree is only read. The exit status is 1
if a mutant survives, if its old text is not in the file exactly once, if it fails by being no program instead of by
being wrong, or if the copy without a mutation fails what is selected.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
COPIED = ("jsoftmax", "tests", "experiments", "docs", "README.md", "pyproject.toml")
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
TIME_LIMIT = 900  # seconds for one run of pytest
# what Python says of code that is no program: no test found anything wrong with a number
NO_PROGRAM = re.compile(r"(Syntax|Indentation|Name|UnboundLocal|Import|ModuleNotFound|Attribute)Error\b")


class Mutant(NamedTuple):
    name: str
    path: str  # below jsoftmax/
    old: str
    new: str
    tests: str  # pytest's arguments: one file of tests/ and -k

    def problem(self, root: Path) -> str:
        """Why it cannot be made there; empty if it can."""
        found = (root / "jsoftmax" / self.path).read_text(encoding="utf-8").count(self.old)
        if self.old == self.new:
            return "changes nothing"
        return "" if found == 1 else f"old text found {found} times in {self.path}"

    def apply(self, root: Path) -> None:
        path = root / "jsoftmax" / self.path
        path.write_text(path.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")


CORE_AXES, CORE_LABELS, CORE_MEAN = "_core/axes.py", "_core/labels.py", "_core/reduce.py"
REFERENCE, STATISTICS, PULLBACK = "_partition/reference.py", "_partition/statistics.py", "_partition/pullback.py"
PENALTIES, SPATIAL = "_partition/penalties.py", "_ops/spatial.py"
HIERARCHICAL = "_ops/hierarchical.py"
ADAPTIVE = "_ops/adaptive.py"
CHOSEN, SAMPLED, SAMPLERS = "_partition/chosen.py", "_ops/sampled.py", "_ops/samplers.py"
LABELLED, LAYER, STREAMED = "_partition/labelled.py", "_partition/layer.py", "_partition/streamed.py"
DIVERGENCE, DECISION, RBM = "_partition/divergence.py", "_partition/decision.py", "_ops/rbm.py"
ENTROPY = "_ops/entropy.py"
LINEAR, MARGIN, CONTRASTIVE = "_ops/linear.py", "_ops/margin.py", "_ops/contrastive.py"
ANGLES, ADDRESSING = "_partition/angles.py", "_ops/addressing.py"
JUDGE = "../experiments/conformance/run.py"
ATTENTION, ADDRESSED = "_ops/attention.py", "_partition/addressed.py"
HOPFIELD, MODERN_HOPFIELD = "_ops/hopfield.py", "_ops/modern_hopfield.py"
CROSS_ENTROPY, LOGSUMEXP, SOFTMAX = "_ops/cross_entropy.py", "_ops/logsumexp.py", "_ops/softmax.py"

MUTANTS = (
    # associative memories
    Mutant(
        "fields-by-rows",
        HOPFIELD,
        "effects = weights.T",
        "effects = weights",
        "test_hopfield.py -k test_a_unit_follows_its_row_of_weights",
    ),
    Mutant(
        "a-field-of-0-turns",
        HOPFIELD,
        "jnp.where(h < 0, -1, s)",
        "jnp.where(h < 0, -1, -s)",
        "test_hopfield.py -k 'test_a_sweep and None and int8'",
    ),
    Mutant(
        "no-state-is-left-alone",
        HOPFIELD,
        "jnp.where(kept, course.state, new)",
        "new",
        "test_hopfield.py -k 'test_every_state_goes_its_own_way and True'",
    ),
    Mutant(
        "bad-patterns-unseen",
        MODERN_HOPFIELD,
        "jnp.where(lax.expand_dims(memory.bad, range(z.ndim - 1)), jnp.nan, z)",
        "z",
        "test_modern_hopfield.py -k 'test_a_pattern_that_is_left_out and None'",
    ),
    Mutant(
        "bad-patterns-multiplied",
        MODERN_HOPFIELD,
        "jnp.where(jnp.isfinite(a), a, 0)",
        "a",
        "test_modern_hopfield.py -k 'test_a_pattern_that_is_left_out and None'",
    ),
    Mutant(
        "implicit-without-its-solve",
        MODERN_HOPFIELD,
        "lax.custom_linear_solve(lambda v: v - turned(v), moved, _conjugate_gradients, symmetric=True)",
        "moved + turned(moved)",
        "test_modern_hopfield.py -k 'test_what_it_settles_to and each'",
    ),
    Mutant(
        "longest-of-all-patterns",
        MODERN_HOPFIELD,
        "jnp.max(lengths, -1, keepdims=True, where=memory.where, initial=0)",
        "jnp.max(lengths, -1, keepdims=True, initial=0)",
        "test_modern_hopfield.py -k 'test_a_mask_leaves'",
    ),
    # labels
    Mutant(
        "label-left-in-its-rest",
        LABELLED,
        "return put(reference.masses_in(f, x, where), labels, positions(axes), 0), at",
        "return reference.masses_in(f, x, where), at",
        "test_torture.py -k 'eager and T01 and integer'",
    ),
    Mutant(
        "label-left-in-its-block",
        "_partition/blocked.py",
        "jnp.where(index == labels, 0, reference.masses_in(f, part, None))",
        "reference.masses_in(f, part, None)",
        "test_blocked.py -k 'test_every_kind_of_row and integer and 389'",
    ),
    Mutant(
        "excess-by-subtraction",
        REFERENCE,
        "((1 - tied) * below + tied * (total - 1))",
        "(total - 1 + 0 * (tied + below))",
        "test_torture.py -k 'eager and T13'",
    ),
    Mutant(
        "wrong-element-looked-up",
        CORE_LABELS,
        "found[i], rest = lax.rem(rest, size), lax.div(rest, size)",
        "found[i], rest = lax.div(rest, size), lax.rem(rest, size)",
        "test_api.py -k 'axis_forms and integer'",
    ),
    Mutant(
        "other-rows-element",
        CORE_LABELS,
        "jnp.minimum(jnp.maximum(labels, 0), math.prod",
        "jnp.minimum(jnp.maximum(labels[::-1], 0), math.prod",
        "test_api.py -k 'one_hot_distribution'",
    ),
    Mutant(
        "devices-tie-counted-once",
        "_partition/merge.py",
        "return Statistics(peak + 0 * count, apart + (count - 1))",
        "return Statistics(peak + 0 * count, apart)",
        "test_class_shards.py -k 'reverse_of_shard_map and four and logsumexp'",
    ),
    Mutant(
        "devices-nan-lost",
        "_partition/merge.py",
        "jnp.where(jnp.isnan(peak), jnp.nan, leads.astype(peak.dtype))",
        "leads.astype(peak.dtype)",
        "test_class_shards.py -k 'not_a_number'",
    ),
    Mutant(
        "devices-lead-rounded-away",
        "_partition/merge.py",
        "apart = jnp.where(leads, excess, (1 + excess) * accurate.exp(t))",
        "apart = (1 + excess) * accurate.exp(t) - leads",
        "test_class_shards.py -k 'reverse_of_shard_map and two and logsumexp or any_row'",
    ),
    Mutant(
        "devices-own-index",
        CORE_AXES,
        "        index += lax.axis_index(names(axes))\n",
        "        pass\n",
        "test_class_shards.py -k 'reverse_of_shard_map and two and integer'",
    ),
    Mutant(
        "devices-own-classes",
        CORE_AXES,
        "return here * lax.axis_size(names(axes)) if names(axes) else here",
        "return here",
        "test_class_shards.py -k 'reverse_of_shard_map and two and integer'",
    ),
    Mutant(
        "devices-own-sum",
        CORE_AXES,
        "return lax.psum(y, names(axes)) if names(axes) else y",
        "return y",
        "test_class_shards.py -k 'reverse_of_shard_map and two and softmax_cross_entropy and unchecked'",
    ),
    Mutant(
        "devices-shared-cotangent-many-times",
        "_core/mesh.py",
        "return jnp.where(lax.axis_index(names) == 0, g, 0)",
        "return g",
        "test_class_shards.py -k 'reverse_of_shard_map and two and unchecked and logsumexp'",
    ),
    Mutant(
        "devices-part-of-a-cotangent",
        "_core/mesh.py",
        "(lax.psum(g, names),)",
        "(g,)",
        "test_class_shards.py -k 'reverse_of_shard_map and two and unchecked and logsumexp'",
    ),
    Mutant(
        "devices-inputs-not-added-up",
        LINEAR,
        "return bars._replace(**lax.psum(parts, plan.names))",
        "return bars",
        "test_linear_shards.py -k every_argument",
    ),
    Mutant(
        "devices-own-first-class",
        LINEAR,
        "return lax.axis_index(self.names) * self.classes_here(layer) if self.names else 0",
        "return 0 * lax.axis_index(self.names) if self.names else 0",
        "test_linear_shards.py -k every_argument",
    ),
    Mutant(
        "devices-turn-of-their-own-peak",
        STREAMED,
        "turn = lax.psum(_turned(turn, excess, moved), names)",
        "turn = lax.psum(turn, names)",
        "test_linear_shards.py -k every_argument",
    ),
    Mutant(
        "devices-drop-of-their-own-peak",
        STREAMED,
        "drop + jnp.where(empty, 0, count * moved)",
        "drop",
        "test_linear_shards.py -k every_argument",
    ),
    Mutant(
        "devices-prediction-of-their-own",
        STREAMED,
        "first = _first_of(jnp.where((peak == stats.peak) & ~empty, begin + first, NONE), names)",
        "first = _first_of(begin + first, names)",
        "test_linear_shards.py -k prediction",
    ),
    Mutant(
        "devices-measures-many-times",
        LINEAR,
        "mesh.once(a, plan.names)",
        "a",
        "test_linear_shards.py -k every_argument",
    ),
    Mutant(
        "devices-own-mean",
        CORE_MEAN,
        "total, count = lax.psum(mesh.apart((total, count), (), names), names)",
        "total = lax.pmean(*mesh.apart((total,), (), names), names)",
        "test_sharding.py -k uneven",
    ),
    Mutant(
        "one-hot",
        LABELLED,
        "jnp.where(at_y, at_label_bar(g, level, at, stats), e * ((g + level) * unit))",
        "e * ((g + level) * unit)",
        "test_torture.py -k 'eager and T01 and cross_entropy'",
    ),
    Mutant(
        "labels-clamped",
        CROSS_ENTROPY,
        "    labels = as_int32(lax.expand_dims(labels, ax.positions(axes)))\n",
        "    labels = as_int32(lax.expand_dims(labels, ax.positions(axes)))\n"
        "    labels = jnp.clip(labels, 0, ax.class_count(x.shape, axes) - 1)\n",
        "test_torture.py -k 'eager and L01'",
    ),
    Mutant(
        "labels-from-the-end",  # −1 means the last class
        CROSS_ENTROPY,
        "    labels = as_int32(lax.expand_dims(labels, ax.positions(axes)))\n",
        "    labels = as_int32(lax.expand_dims(labels, ax.positions(axes)))\n"
        "    labels = jnp.where(labels < 0, labels + ax.class_count(x.shape, axes), labels)\n",
        "test_torture.py -k 'eager and L01'",
    ),
    Mutant(
        "labels-wrapped-to-32-bits",
        CORE_LABELS,
        "return jnp.where(fits, narrow, UNREPRESENTABLE)",
        "return narrow",
        "test_api.py -k test_no_traced_label_wraps_onto_a_class",
    ),
    Mutant(
        "labels-of-numpy-wrapped-to-32-bits",
        "_core/check.py",
        "return np.where(fits, np.where(fits, indices, 0).astype(np.int32), np.int32(UNREPRESENTABLE))",
        "return indices.astype(np.int32)",
        "test_api.py -k test_no_label_wraps_onto_a_class",
    ),
    Mutant(
        "labels-unsigned-taken-as-signed",
        CORE_LABELS,
        "if info.max <= np.iinfo(np.int32).max:",
        "if info.max <= np.iinfo(np.uint32).max:",
        "test_api.py -k 'test_ignoring_one_label and [-1]'",
    ),
    Mutant(
        "ignore-label-of-64-bits",
        "_core/check.py",
        "not UNREPRESENTABLE < int(ignore) < 2**31",
        "not -(2**63) <= int(ignore) < 2**64",
        "test_errors.py -k 'test_refused and integer_labels and not jit'",
    ),
    Mutant(
        "bad-label-not-poisoned-in-value",
        CROSS_ENTROPY,
        "    loss = poison(loss + penalties.value(sums, options), jnp.isnan(stats.excess))\n",
        "    loss += penalties.value(sums, options)\n",
        "test_torture.py -k 'eager and L01'",
    ),
    Mutant(
        "bad-label-not-poisoned-in-gradient",
        STATISTICS,
        "peak = jnp.where(bad, jnp.nan, peak)",
        "pass",
        "test_torture.py -k 'eager and L01'",
    ),
    Mutant(
        "ignored-row-times-0",
        CROSS_ENTROPY,
        "    kept = x if ignored is None else jnp.where(ignored, 0, x)\n    sums =",
        "    kept, log_p = x, log_p + 0 * jnp.max(x, axes, keepdims=True)\n    ignored = None\n    sums =",
        "test_torture.py -k 'eager and L02'",
    ),
    Mutant(
        "unread-row-read",
        CROSS_ENTROPY,
        "used = ~((g == 0) & bad)",
        "used = ~(jnp.zeros_like(bad) & bad)",
        "test_torture.py -k 'eager and T09 and unread'",
    ),
    Mutant(
        "0-log-0",
        REFERENCE,
        "return jnp.where((y == 0) & (log_p == -jnp.inf), 0, y * log_p)",
        "return y * log_p",
        "test_torture.py -k 'eager and L06'",
    ),
    Mutant(
        "soft-labels-gradient-sign",
        CROSS_ENTROPY,
        "labels_bar = _times(each, scale)",
        "labels_bar = -_times(each, scale)",
        "test_torture.py -k 'eager and L06'",
    ),
    Mutant(
        "absent-label-pulls-β",
        CROSS_ENTROPY,
        "jnp.where(log_p == -jnp.inf, pulled, 0) * weights",
        "0 * weights",
        "test_value_and_grad.py -k 'half_precision and bfloat16-softmax_cross_entropy_with'",
    ),
    Mutant(
        "absent-mass-pulls-β",
        CROSS_ENTROPY,
        "t_bar - g * absent * p, x, beta",
        "t_bar, x, beta",
        "test_lanes.py -k 'test_disable_jit and softmax_cross_entropy'",
    ),
    # options
    Mutant(
        "smoothing-over-absent-classes",
        PENALTIES,
        "lambda x, where: live(x, where).astype(stats.peak.dtype), axes",
        "lambda x, where: jnp.ones_like(x, stats.peak.dtype), axes",
        "test_torture.py -k 'eager and L08'",
    ),
    Mutant(
        "label-keeps-its-mass",  # 1 + ε in all
        CROSS_ENTROPY,
        "    return w if kept is None else _times(kept, w)\n",
        "    return w\n",
        "test_torture.py -k 'eager and W01'",
    ),
    Mutant("z-loss-value-only", PENALTIES, "level = 2 * g", "level = 0 * g", "test_torture.py -k 'eager and W02'"),
    Mutant(
        "z-loss-of-an-empty-row",
        PENALTIES,
        "return jnp.where(stats.excess == -1, 0, limits.saturate(log_z))",
        "return limits.saturate(log_z)",
        "test_torture.py -k 'eager and W02'",
    ),
    Mutant(
        "z-loss-without-the-peak-in-β",
        PENALTIES,
        "limits.saturate(level * stats.peak)",
        "limits.saturate(level * 0)",
        "test_loss_options.py -k 'float64 and ignore'",
    ),
    Mutant(
        "smoothing-without-class-weights",
        PENALTIES,
        "w = jnp.ones((1,) * x.ndim, stats.peak.dtype) if options.class_weights is None else options.class_weights",
        "w = jnp.ones((1,) * x.ndim, stats.peak.dtype)",
        "test_loss_options.py -k torch",
    ),
    Mutant(
        "raw-derivative-of-log-partition",
        STATISTICS,
        "    moved = times(beta, _mean_of_tangent(primals, tangents, axes))\n",
        "    return jax.jvp(lambda b: reference.log_partition(b, stats), (beta,), tangents[1:2])\n",
        "test_loss_options.py -k 'second_order and ties'",
    ),
    # reduced losses
    Mutant(
        "ignored-positions-counted",
        SPATIAL,
        "            valid &= as_int32(labels) != as_int32(ignore)\n",
        "            pass\n",
        "test_spatial.py -k caffe",
    ),
    Mutant(
        "divided-by-nothing",
        SPATIAL,
        "jnp.maximum(1, _divisor(",
        "jnp.maximum(0, _divisor(",
        "test_spatial.py -k nothing",
    ),
    # masks
    Mutant(
        "mask-forgotten-in-backward",
        LOGSUMEXP,
        "masked(g * weights(x, beta, where, stats, axes), where)",
        "masked(g * weights(x, beta, None, stats, axes), None)",
        "test_torture.py -k 'eager and T07 and logsumexp'",
    ),
    Mutant(
        "masked-label-reached",
        PULLBACK,
        "y = masked(times(beta, t_bar), where)",
        "y = masked(times(beta, t_bar), None)",
        "test_torture.py -k 'eager and T06'",
    ),
    Mutant(
        "masked-content-read",
        REFERENCE,
        "return jnp.where(live(x, where), widen(x) * 0.5 - peak * 0.5, 0)",
        "return widen(x) * 0.5 - peak * 0.5",
        "test_torture.py -k 'eager and B08 and logsumexp'",
    ),
    Mutant(
        "masked-tangent-read",
        STATISTICS,
        "    by_x = by_x if where is None else jnp.where(where, by_x, 0)\n",
        "",
        "test_laws.py -k T31",
    ),
    # (peak, excess)
    Mutant(
        "ties-not-counted",
        REFERENCE,
        "((1 - tied) * below + tied * (total - 1))",
        "(below + 0 * tied)",
        "test_torture.py -k 'eager and T14'",
    ),
    Mutant(
        "ties-counted-twice",
        REFERENCE,
        "return below_peak(e), e\n",
        "return below_peak(e), e + jnp.floor(e)\n",
        "test_torture.py -k 'eager and T14'",
    ),
    Mutant(
        "peak-of-βx",
        REFERENCE,
        "jnp.abs((_settled(x, f) * f.scale - f.origin) * f.factor)",
        "jnp.abs(_settled(x, f) * f.scale * f.factor - f.origin * f.factor)",
        "test_torture.py -k 'eager and B06'",
    ),
    Mutant(
        "gap-not-halved",
        REFERENCE,
        "widen(x) * 0.5 - peak * 0.5",
        "(widen(x) - peak) * 0.5",
        "test_value_and_grad.py -k 'float32_eager and logmeanexp'",
    ),
    Mutant(
        "peak-for-negative-β",
        REFERENCE,
        "jnp.where(beta < 0, jnp.where(highest == -jnp.inf, 0, lowest), _or_zero(highest))",
        "_or_zero(highest)",
        "test_torture.py -k 'eager and B04'",
    ),
    Mutant(
        "infinite-β-as-0",
        REFERENCE,
        "jnp.where(limit, jnp.sign(beta) * info.max, beta / scale)",
        "jnp.where(limit, info.tiny, beta / scale)",
        "test_torture.py -k 'eager and B02'",
    ),
    Mutant(
        "absent-is-the-lowest",
        REFERENCE,
        "jnp.where(live(x, w), -widen(x), -jnp.inf)",
        "-widen(x)",
        "test_blocked.py -k 'kind_of_row and logsumexp'",
    ),
    Mutant(
        "row-not-checked",
        REFERENCE,
        "return Statistics(peak, excess + poison)",
        "return Statistics(peak, excess)",
        "test_laws.py -k 'B09 and nan'",
    ),
    Mutant(
        "log-of-1-plus",
        REFERENCE,
        "return accurate.log1p(stats.excess)",
        "return accurate.log(1 + stats.excess)",
        "test_torture.py -k 'eager and T13'",
    ),
    Mutant(
        "1-minus-p",
        LABELLED,
        "jnp.where(reference.alone(at, stats.excess), stats.excess * unit, 1 - at * unit)",
        "1 - at * unit",
        "test_torture.py -k 'eager and T13'",
    ),
    Mutant(
        "loss-from-lse-alone",
        REFERENCE,
        "gap(x, beta, where, stats.peak) - jnp.maximum(log_excess(stats), 0)",
        "beta * widen(x) - (beta * stats.peak + jnp.maximum(log_excess(stats), 0))",
        "test_torture.py -k 'eager and T15'",
    ),
    Mutant(
        "empty-row-has-an-entropy",
        REFERENCE,
        "return jnp.where(stats.excess == -1, 0, log_excess(stats) - mean_gap)",
        "return log_excess(stats) - mean_gap",
        "test_torture.py -k 'eager and B01 and logsumexp'",
    ),
    Mutant(
        "empty-row-at-infinite-β",
        "_partition/limits.py",
        "    y = jnp.where(empty, of_nothing(beta), y)\n",
        "",
        "test_torture.py -k 'eager and B02 and logsumexp'",
    ),
    Mutant(
        "mean-taken-off-once",
        PULLBACK,
        "for _ in range(2):  # as in",
        "for _ in range(1):  # as in",
        "test_torture.py -k 'eager and T24'",
    ),
    Mutant(
        "merge-loses-a-tie",
        "_partition/merge.py",
        "lead + (1 + tail) * kept",
        "lead + tail * kept",
        "test_merge.py -k '1.0 and tie'",
    ),
    # dtypes
    Mutant(
        "sums-in-half-precision",
        "_core/dtypes.py",
        "return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype",
        "return dtype",
        "test_laws.py -k 'T27 and bfloat16 and not log'",
    ),
    # β
    Mutant(
        "β-once-too-few",
        PULLBACK,
        "masked(times(beta, t_bar), where)",
        "masked(t_bar, where)",
        "test_torture.py -k 'eager and T05'",
    ),
    Mutant(
        "β-once-too-often",
        PULLBACK,
        "masked(times(beta, t_bar), where)",
        "masked(times(beta, times(beta, t_bar)), where)",
        "test_torture.py -k 'eager and T05'",
    ),
    Mutant(
        "β-missing-in-the-jacobian",
        SOFTMAX,
        "    slope = finite_part(beta)\n",
        "    slope = jnp.ones_like(beta)\n",
        "test_torture.py -k 'eager and X06'",
    ),
    Mutant(
        "β-slope-sign",
        PULLBACK,
        "return limits.held(2 * total(",
        "return limits.held(-2 * total(",
        "test_torture.py -k 'eager and B08 and cross_entropy'",
    ),
    Mutant(
        "entropy-slope-sign",
        LOGSUMEXP,
        "return limits.saturate(-entropy(",
        "return limits.saturate(entropy(",
        "test_torture.py -k 'eager and B08 and logsumexp'",
    ),
    Mutant(
        "β-cotangent-not-summed",
        CORE_AXES,
        "return jnp.sum(cotangent, spread, keepdims=True) if spread",
        "return jnp.max(cotangent, spread, keepdims=True) if spread",
        "test_transforms.py -k 'of_the_call and [softmax-jit]'",
    ),
    Mutant(
        "temperature-slope-sign",
        "_core/temperature.py",
        "return beta, -finite * (finite * tangents[0])",
        "return beta, finite * (finite * tangents[0])",
        "test_api.py -k 'test_three_names and temperature-softmax'",
    ),
    Mutant(
        "temperature-0-of-either-sign",
        "_core/temperature.py",
        "return jnp.where(cold, jnp.inf, 1 / jnp.where(cold, 1, temperature))",
        "return 1 / temperature",
        "test_api.py -k 'test_limits and temperature and -softmax'",
    ),
    Mutant(
        "temperature-0-infinite-slope",
        "_core/temperature.py",
        "finite = jnp.where(jnp.isinf(beta), 0, beta)",
        "finite = beta",
        "test_api.py -k 'test_limits and temperature and -softmax'",
    ),
    Mutant(
        "base-0-infinite-slope",
        "_core/temperature.py",
        "jnp.where(limit, 0, 1 / jnp.where(limit, 1, base)) * tangents[0]",
        "tangents[0] / base",
        "test_api.py -k 'test_limits and base and -softmax'",
    ),
    Mutant(
        "default-β-by-value",
        "_core/check.py",
        'named = (("beta", None if beta is DEFAULT_BETA else beta)',
        'named = (("beta", None if isinstance(beta, float) and beta == DEFAULT_BETA else beta)',
        "test_errors.py -k 'test_refused[softmax]'",
    ),
    # rules closed under differentiation
    Mutant(
        "raw-derivative-of-weights",
        STATISTICS,
        "return weights(*primals, axes), _weight_tangent(primals, tangents, axes)",
        "return jax.jvp(reference.weights, primals, tangents)",
        "test_torture.py -k 'jit and T01 and logsumexp'",
    ),
    Mutant(
        "raw-derivative-of-complements",
        STATISTICS,
        "return complements(*primals, axes), -_weight_tangent(primals, tangents, axes)",
        "return jax.jvp(reference.complements, primals, tangents)",
        "test_second_order.py -k 'softmax_jacobian and ties'",
    ),
    Mutant(
        "raw-derivative-of-log-weights",
        STATISTICS,
        "return log_weights(*primals, axes), _log_weight_tangent(primals, tangents, axes)",
        "return jax.jvp(reference.log_weights, primals, tangents)",
        "test_second_order.py -k 'normal-softmax_cross_entropy and not integer'",
    ),
    Mutant(
        "raw-derivative-of-entropy",
        STATISTICS,
        "return entropy(*primals, axes), -times_twice(beta, moved)",
        "return jax.jvp(lambda *a: reference.entropy(*a, axes), primals, tangents)",
        "test_second_order.py -k 'third and [logsumexp]'",
    ),
    # weighted mean
    Mutant(
        "mean-of-loss-times-mask",
        CORE_MEAN,
        "return jnp.sum(w * jnp.where((w != 0) | jnp.isfinite(losses), losses, 0))",
        "return jnp.sum(w * losses)",
        "test_torture.py -k 'eager and W03'",
    ),
    Mutant(
        "mean-counts-ignored-rows",
        CORE_MEAN,
        "weighted_sum(losses, w), jnp.sum(w)\n",
        "weighted_sum(losses, w), jnp.sum(jnp.ones_like(w))\n",
        "test_torture.py -k 'eager and W03'",
    ),
    Mutant(
        "mean-of-nothing",
        CORE_MEAN,
        "jnp.where(count == 0, 0, total / jnp.where(count == 0, 1, count))",
        "total / count",
        "test_torture.py -k 'eager and R02'",
    ),
    # energies
    Mutant(
        "divergence-without-second-shift",
        DIVERGENCE,
        "return jnp.where(both, u - accurate.log1p(seen), 0)",
        "return jnp.where(both, u, 0)",
        "test_energy.py -k '1e-06 and divergence'",
    ),
    Mutant(
        "divergence-forgets-what-rounding-leaves",
        DIVERGENCE,
        "(each - common) + (left - rest)",
        "each - common",
        "test_energy.py -k 'offset'",
    ),
    Mutant(
        "divergence-finite-without-support",
        DIVERGENCE,
        "jnp.where(infinite, jnp.inf, total(_terms(w), axes))",
        "total(_terms(w), axes)",
        "test_energy.py -k 'supports'",
    ),
    Mutant(
        "divergence-slope-by-its-first-term",
        DIVERGENCE,
        " + 2 * total(rest * half_gap(pair.y, pair.where, pair.of_q.peak), axes)",
        "",
        "test_energy.py -k 'confident_rows'",
    ),
    Mutant(
        "entropy-slope-without-beta",
        ENTROPY,
        "times(beta, p * spread) * spread",
        "p * spread * spread",
        "test_energy.py -k 'test_entropy_and_its_gradient'",
    ),
    Mutant(
        "forbidden-state-at-beta-0",
        DECISION,
        "jnp.where(limit | tie, v, beta * v)",
        "jnp.where(tie, v, beta * v)",
        "test_energy.py -k 'unit_at_its_limits'",
    ),
    Mutant(
        "samples-move-the-loss",
        RBM,
        "(visible, weight, a, b), beta = lax.stop_gradient(given)",
        "(visible, weight, a, b), beta = given",
        "test_rbm.py -k 'keys_decide'",
    ),
    Mutant(
        "divergence-with-the-pole",
        RBM,
        "jnp.sum(logmeanexp(_both(gaps), 0, **_as_beta(beta)), -1)",
        "jnp.sum(logsumexp(_both(gaps), 0, **_as_beta(beta)), -1)",
        "test_rbm.py -k 'limits_of_beta'",
    ),
    Mutant(
        "one-step-of-gibbs",
        RBM,
        "jax.random.split(key, steps))",
        "jax.random.split(key, 1))",
        "test_rbm.py -k 'law_of_their_steps'",
    ),
    # log-mean-exp and multiplicities
    Mutant(
        "mean-exp-as-lse-minus-log-n",
        "_ops/logmeanexp.py",
        "log_mean = jnp.where(growth > -0.25, accurate.log1p(growth), far)",
        "log_mean = accurate.log(level)",
        "test_value_and_grad.py -k 'float32_jit and logmeanexp'",
    ),
    Mutant(
        "mean-exp-slope-without-series",
        "_ops/logmeanexp.py",
        "small = jnp.abs(tau) < NEAR",
        "small = jnp.zeros(tau.shape, bool)",
        "test_torture.py -k 'eager and B01 and logmeanexp'",
    ),
    Mutant(
        "multiplicity-0-has-a-peak",
        "_ops/signed_logsumexp.py",
        "peak, excess = statistics(x, beta, b != 0, axes)",
        "peak, excess = statistics(x, beta, where, axes)",
        "test_torture.py -k 'eager and X03'",
    ),
    Mutant(
        "multiplicity-0-times-infinity",
        "_ops/signed_logsumexp.py",
        "return r, b * jnp.where((b == 0) & ~jnp.isfinite(r), 0, r)",
        "return r, b * r",
        "test_torture.py -k 'eager and X03'",
    ),
    # axes, modes, devices
    Mutant(
        "order-of-axes",
        CORE_AXES,
        "    for i in positions(axes):\n        along",
        "    for i in sorted(positions(axes)):\n        along",
        "test_torture.py -k 'eager and T19 and cross_entropy'",
    ),
    Mutant(
        "forward-mode-ignored",
        "_core/rule.py",
        "return _whole(primal)(*args) if _forward_mode.value else ruled(*args)",
        "return ruled(*args)",
        "test_laws.py -k 'T31 and logsumexp'",
    ),
    Mutant(
        "mesh-not-aligned",
        "_core/mesh.py",
        "_cast(a, axes - varying(a))",
        "a",
        "test_sharding.py -k 'shard_map_of_reverse and [softmax-checked-shared]'",
    ),
    Mutant(
        "operands-in-their-own-sharding",
        "_core/mesh.py",
        "[a if a is None else _shard_as(a, x) for",
        "[a for",
        "test_sharding.py -k 'replicated and logsumexp'",
    ),
    # blocks of classes
    Mutant(
        "excess-of-blocks-by-subtraction",
        "_partition/blocked.py",
        "return reference.excess_from(below, total)",
        "return total - 1 + 0 * below",
        "test_blocked.py -k 'kind_of_row and log_softmax'",
    ),
    Mutant(
        "excess-of-another-block",
        "_partition/blocked.py",
        "jnp.argmax(sums >= 1",
        "jnp.argmin(sums >= 1",
        "test_blocked.py -k 'kind_of_row and logsumexp'",
    ),
    Mutant(
        "one-read-tie-counted-once",
        "_partition/online.py",
        "count = lax.select(tied, n1 + n2,",
        "count = lax.select(tied, n1,",
        "test_platforms.py -k same_pair",
    ),
    Mutant(
        "one-read-of-a-tail-without-its-peak",
        "_partition/online.py",
        "(lax.select(first, r2, r1) + lax.select(first, n2, n1)) * factor",
        "lax.select(first, r2, r1) * factor",
        "test_platforms.py -k same_pair",
    ),
    Mutant(
        "one-read-infinity-that-is-least",
        "_partition/online.py",
        "jnp.where(infinite, jnp.nan, 0)",
        "jnp.where(infinite, 0.0, 0)",
        "test_platforms.py -k same_pair",
    ),
    Mutant(
        "one-read-no-step",
        "_partition/online.py",
        "return lax.select(slope == jnp.inf, lax.full_like(slope, 0), decay)",
        "return decay",
        "test_platforms.py -k counts_as_0",
    ),
    Mutant(
        "masses-read-again",
        STATISTICS,
        "if names(axes) or not online.suits(x, here):\n        return statistics(x, beta, where, axes), None",
        "if True:\n        return statistics(x, beta, where, axes), None",
        "test_platforms.py -k found_in_its_read",
    ),
    Mutant(
        "one-read-masses-stay-at-the-peak",
        "_partition/online.py",
        "lax.select(tied, o1 + o2, lax.select(first, o1, o2) + lower)",
        "lax.select(tied, o1 + o2, lax.select(first, o1, o2))",
        "test_platforms.py -k gives_the_sums",
    ),
    Mutant(
        "one-read-absent-at-beta-0",
        "_partition/online.py",
        "lax.select((distance == infinite) | (slope == infinite), infinite, distance * slope)",
        "lax.select(slope == infinite, infinite, distance * slope)",
        "test_platforms.py -k 'gives_the_sums and 0.0'",
    ),
    Mutant(
        "one-read-absent-masses-cancel",
        "_partition/online.py",
        "jnp.where((z == -jnp.inf) & (q != 0), q * jnp.inf, 0)",
        "jnp.zeros_like(z)",
        "test_platforms.py -k masses_of_two_signs",
    ),
    Mutant(
        "one-read-exponent-of-no-distance",
        "_partition/online.py",
        "(distance == infinite) | (slope == infinite), infinite",
        "distance == infinite, infinite",
        "test_platforms.py -k counts_as_0",
    ),
    Mutant(
        "peak-by-its-bits",
        REFERENCE,
        "return (e >= 1 - NEAR) & (excess < 1 - 2 * NEAR)",
        "return (e == 1) & (excess < 1 - 2 * NEAR)",
        "test_platforms.py -k another_rounding",
    ),
    Mutant(
        "peak-without-its-sums",
        PULLBACK,
        "return jnp.where(alone, rest, bar -",
        "return jnp.where(alone & False, rest, bar -",
        "test_platforms.py -k 'keeps_its_gradient and tpu'",
    ),
    Mutant(
        "sums-of-an-unmoved-cotangent",
        STATISTICS,
        "still[1]._replace(total=moved, beside=beside)",
        "still[1]",
        "test_platforms.py -k 'derivatives_of_the_gradient and cross_entropy'",
    ),
    Mutant(
        "on-chip-infinity-that-is-least",
        "_partition/resident.py",
        "return jnp.where((x == jnp.inf) & (beta < 0), jnp.nan, z)",
        "return z",
        "test_platforms.py -k 'values_and_cotangents and cuda and softmax'",
    ),
    Mutant(
        "on-chip-empty-row",
        "_partition/resident.py",
        "peak = jnp.maximum(jnp.max(z, axes, keepdims=True), lowest)",
        "peak = jnp.max(z, axes, keepdims=True)",
        "test_platforms.py -k 'values_and_cotangents and cuda and softmax'",
    ),
    Mutant(
        "on-chip-ties",
        "_partition/resident.py",
        "jnp.where(total >= 2 * (1 - reference.NEAR), total - 1, jnp.where(total < 0.5, -1, below))",
        "jnp.where(total < 0.5, -1, below)",
        "test_platforms.py -k 'values_and_cotangents and cuda'",
    ),
    Mutant(
        "on-chip-nothing-as-something",
        "_partition/resident.py",
        "jnp.where(total < 0.5, -1, below)",
        "below",
        "test_platforms.py -k no_penalty",
    ),
    Mutant(
        "on-chip-mask-beside-minus-infinity",
        "_partition/resident.py",
        "if not fits(x, beta, axes, fine):\n        return otherwise",
        "if where is not None or not fits(x, beta, axes, fine):\n        return otherwise",
        "test_platforms.py -k to_the_bit",
    ),
    Mutant(
        "default-accuracy",
        "_core/accurate.py",
        "exp, expm1 = _highest(lax.exp), _highest(lax.expm1)",
        "exp, expm1 = lax.exp, lax.expm1",
        "test_platforms.py -k lowers",
    ),
    Mutant(
        "path-label-out-of-range",
        HIERARCHICAL,
        "jnp.where(known, turns.astype(jnp.int32), -1), rests)",
        "turns.astype(jnp.int32), rests)",
        "test_hierarchical.py -k no_class",
    ),
    Mutant(
        "path-without-its-end",
        HIERARCHICAL,
        "    rests = ~mask & known\n",
        "    rests = jnp.zeros_like(mask)\n",
        "test_hierarchical.py -k losses",
    ),
    Mutant(
        "path-ignored-input",
        HIERARCHICAL,
        "x = jnp.where(kept[:, None], inputs, 0)",
        "x = inputs",
        "test_hierarchical.py -k no_class",
    ),
    Mutant(
        "path-node-that-wraps",
        CHOSEN,
        "return jnp.where((ids >= 0) & (ids < classes), ids, classes)",
        "return ids",
        "test_hierarchical.py -k outside",
    ),
    Mutant(
        "package-merge-without-leaves",
        "_core/trees.py",
        "taken = 2 * (taken - light)",
        "taken = taken - light",
        "test_hierarchical.py -k 'no_tree_is_shorter or geometrically'",
    ),
    Mutant(
        "beam-leaf-goes-on-twice",
        HIERARCHICAL,
        "stay = jnp.where(first, log_p[None], -jnp.inf)",
        "stay = jnp.where(first, log_p[None], log_p[None])",
        "test_hierarchical.py -k beam",
    ),
    Mutant(
        "hits-left-in",
        SAMPLED,
        "hits |= (ids == labels[:, t, None]) & kept[:, t, None]",
        "hits |= jnp.zeros_like(hits)",
        "test_sampled.py -k gradients",
    ),
    Mutant(
        "candidates-of-numpy-wrapped-to-32-bits",
        "_core/check.py",
        "    return _narrow(ids)\n",
        "    return ids.astype(np.int32)\n",
        "test_sampled.py -k candidate_that_is_no_class",
    ),
    Mutant(
        "gradient-of-what-is-looked-up-not-varying",
        CHOSEN,
        "return mesh.vary(jnp.zeros(x.shape, wide), jnp.zeros(weight.shape, wide), b, x)[:3]",
        "return jnp.zeros(x.shape, wide), jnp.zeros(weight.shape, wide), b",
        "test_vocabulary_shards.py -k devices",
    ),
    Mutant(
        "hits-of-no-label",
        SAMPLED,
        "hits |= (ids == labels[:, t, None]) & kept[:, t, None]",
        "hits |= ids == labels[:, t, None]",
        "test_sampled.py -k candidates_of_their_own",
    ),
    Mutant(
        "label-corrected-after-all",
        SAMPLED,
        "log_q = log_q if correct else log_q.at[:, :true].set(0)",
        "log_q = log_q + 0 * true",
        "test_sampled.py -k gradients",
    ),
    Mutant(
        "noise-that-cannot-be",
        SAMPLED,
        "s = poison(s - log_q, log_q == -jnp.inf)",
        "s = s - log_q",
        "test_sampled.py -k expected_counts",
    ),
    Mutant(
        "sampled-unused-input",
        SAMPLED,
        "x = jnp.where(kept[:, None], x, 0)",
        "x = x + 0",
        "test_sampled.py -k no_number",
    ),
    Mutant(
        "decision-nobody-asks-for",
        SAMPLED,
        "jnp.where(g == 0, 0, g * decision.weight(v))",
        "g * decision.weight(v)",
        "test_sampled.py -k no_number",
    ),
    Mutant(
        "arrival-of-the-last-taken",
        SAMPLERS,
        "log_p - first[sampled])",
        "log_p - first[sampled - 1])",
        "test_samplers.py -k without_replacement",
    ),
    Mutant(
        "alias-of-one-that-came-out-even",
        "_core/candidates.py",
        "over = before[through] < all_given",
        "over = before[through] <= all_given",
        "test_samplers.py -k alias",
    ),
    Mutant(
        "cluster-of-all-examples",
        ADAPTIVE,
        "h = _project(jnp.where(own[:, None], x, 0), p)",
        "h = _project(x, p)",
        "test_adaptive.py -k no_number",
    ),
    Mutant(
        "projection-of-unused-rows",
        ADAPTIVE,
        "jnp.where(kept, x, 0), (((0,), (0,)), ((), ()))",
        "x, (((0,), (0,)), ((), ()))",
        "test_adaptive.py -k no_number",
    ),
    Mutant(
        "clusters-of-the-next",
        ADAPTIVE,
        "first = jnp.where(cluster == 0, labels, ends[0] + cluster - 1)",
        "first = jnp.where(cluster == 0, labels, ends[0] + cluster - cluster)",
        "test_adaptive.py -k losses",
    ),
    Mutant(
        "blocks-as-they-come",
        ADAPTIVE,
        "order = order.reshape(blocks, each).T.reshape(-1)",
        "order = order.reshape(-1)",
        "test_adaptive.py -k left_out",
    ),
    Mutant(
        "product-without-its-rounding",
        REFERENCE,
        "return x + (origin - origin)",
        "return x",
        "test_made_logits.py -k 'sure or (scaled and spot)'",
    ),
    Mutant(
        "peak-beside-itself",
        REFERENCE,
        "return e - e * jnp.floor(e + NEAR)",
        "return e - jnp.floor(e)",
        "test_made_logits.py -k noise",
    ),
    Mutant(
        "narrowing-left-out",
        "_core/dtypes.py",
        "return _converted(lax.bitcast_convert_type((bits ^ sign) ^ sign, x.dtype))",
        "return _converted(x)",
        "test_made_logits.py -k 'bfloat16 and spot'",
    ),
    Mutant(
        "child-that-is-not-there",
        HIERARCHICAL,
        "there = rows != -1  #",
        "there = rows != NOTHING  #",
        "test_hierarchical.py -k 'softmaxes_at or groups'",
    ),
    Mutant(
        "choice-between-the-sums",
        REFERENCE,
        "return 1 / jnp.maximum(1 + stats.excess, 1)",
        "return 1 / jnp.where(stats.excess == -1, 1, 1 + stats.excess)",
        "test_blocked.py -k kernels",
    ),
    Mutant(
        "exponentials-with-two-readers",
        "_partition/blocked.py",
        "return jnp.sum(jnp.where(here, 0, sums), -1, keepdims=True)",
        "return jnp.sum(sums, -1, keepdims=True) - jnp.sum(jnp.where(here, sums, 0), -1, keepdims=True)",
        "test_blocked.py -k nothing_of_the_size",
    ),
    # the linear layer
    Mutant(
        "ignored-token-in-the-weight",
        LAYER,
        "_add_outer(shared.weight, jnp.where(kept, x, 0), u",
        "_add_outer(shared.weight, x, u",
        "test_linear_rules.py -k 'leaves_no_trace'",
    ),
    Mutant(
        "ignored-token-in-the-inputs",
        LAYER,
        "        x_bar = jnp.where(kept, x_bar, 0)\n",
        "        x_bar = x_bar + 0 * x\n",
        "test_linear_rules.py -k 'leaves_no_trace'",
    ),
    Mutant(
        "shift-of-another-block",
        LINEAR,
        "here = at_label(start + ax.class_index(z.shape, (1,)), labels - first, z)",
        "here = at_label(ax.class_index(z.shape, (1,)), labels - first, z)",
        "test_margin_rules.py -k test_blocks",
    ),
    Mutant(
        "gain-of-rows-of-one-device",
        LINEAR,
        'names = ("inputs", "soft_cap", "row_gain")',
        'names = ("inputs", "soft_cap")',
        "test_margin_rules.py -k classes_over_devices",
    ),
    Mutant(
        "gain-of-rows-twice",
        LAYER,
        "total / jnp.where(gain == 0, 1, gain))",
        "2 * total / jnp.where(gain == 0, 1, gain))",
        "test_margin.py -k value_and_gradient",
    ),
    Mutant(
        "centers-all-get-the-gradient",
        LAYER,
        "nearest = (each == jnp.max(each, -1, keepdims=True)).astype(z_bar.dtype)",
        "nearest = jnp.ones_like(each)",
        "test_margin_rules.py -k nearest",
    ),
    Mutant(
        "angle-by-the-arc-cosine",
        ANGLES,
        "apart = 2 * jnp.arctan2(_root(_square(e - f)), _root(_square(e + f)))",
        "apart = jnp.arccos(jnp.clip(jnp.sum(e * f, -1, keepdims=True), -1, 1))",
        "test_margin.py -k value_and_gradient",
    ),
    Mutant(
        "way-not-taken-out-of-its-start",
        ANGLES,
        "    beside -= jnp.sum(beside * e, -1, keepdims=True) * e\n",
        "",
        "test_margin.py -k value_and_gradient",
    ),
    Mutant(
        "length-squared-as-it-is",
        ANGLES,
        "near = (square > 1 / far) & (square < far)",
        "near = (square > -1)",
        "test_margin.py -k no_length",
    ),
    Mutant(
        "pull-of-lengths-left-out",
        ANGLES,
        "here - turn * (part",
        "here - 0 * turn * (part",
        "test_margin.py -k value_and",
    ),
    Mutant(
        "shift-of-ignored-rows",
        MARGIN,
        "    kept = g != 0\n",
        "    kept = g == g\n",
        "test_margin_rules.py -k alone",
    ),
    Mutant(
        "margin-always-straight-through", MARGIN, "if kind.exact else", "if False else", "test_margin.py -k straight"
    ),
    Mutant(
        "margin-of-one-device",
        MARGIN,
        "lax.psum(shift, plan.names) if",
        "shift if",
        "test_margin_rules.py -k over_devices",
    ),
    Mutant(
        "staircase-of-one-step", MARGIN, "jnp.cos(alpha) - 2 * k", "jnp.cos(alpha) - k", "test_margin.py -k value_and"
    ),
    Mutant(
        "looked-up-prototypes-without-gradient",
        MARGIN,
        ".add(own_bar.astype(total.dtype), mode",
        ".add(0 * own_bar.astype(total.dtype), mode",
        "test_margin.py -k value_and",
    ),
    Mutant(
        "candidates-in-their-order",
        MARGIN,
        "device * count + order[at]",
        "device * count + at",
        "test_margin_rules.py -k test_candidates",
    ),
    Mutant(
        "annealing-without-the-1",
        MARGIN,
        "shift / (1 + margin.annealing)",
        "shift / margin.annealing",
        "test_margin.py -k known_values",
    ),
    Mutant("included-late", SAMPLERS, ".set(jnp.inf, mode", ".set(0, mode", "test_margin_rules.py -k included"),
    Mutant(
        "documents-of-the-first-device",
        CONTRASTIVE,
        "lax.axis_index(names) * a.shape[0] if",
        "0 * a.shape[0] if",
        "test_contrastive.py -k devices",
    ),
    Mutant(
        "masked-slot-in-a-product",
        ADDRESSING,
        "jnp.where(there, memory, 0))",
        "memory)",
        "test_addressing.py -k left_out",
    ),
    Mutant(
        "live-slot-that-is-no-number",
        ADDRESSING,
        "z + jnp.where(here & there, 0, jnp.nan)",
        "z + jnp.where(here, 0, jnp.nan)",
        "test_addressing.py -k left_out",
    ),
    Mutant(
        "place-from-zero",
        ADDRESSING,
        "return first + total(p * (c - first), axes)",
        "return first",
        "test_addressing.py -k 'place or far_end or second_order'",
    ),
    Mutant(
        "pull-from-zero",
        ADDRESSING,
        "(_of_live(c, x, where) - e) for",
        "(_of_live(c, x, where) - 0 * e) for",
        "test_addressing.py -k far_end",
    ),
    Mutant(
        "coordinate-of-nothing",
        ADDRESSING,
        "jnp.where(live(x, where), c, 0)",
        "c + 0 * x",
        "test_addressing.py -k masked_is_not_seen",
    ),
    Mutant(
        "coordinate-without-gradient",
        ADDRESSING,
        "ax.sum_to(p * g, c.shape)",
        "ax.sum_to(0 * p * g, c.shape)",
        "test_addressing.py -k 'each_axis or second_order'",
    ),
    Mutant(
        "edges-at-centers",
        ADDRESSING,
        'n if usual == "edges" else',
        'n if usual == "" else',
        "test_addressing.py -k usual",
    ),
    Mutant(
        "one-way-twice",
        CONTRASTIVE,
        "one_way(documents, queries, there)",
        "one_way(queries, documents, where)",
        "test_contrastive.py -k both_ways",
    ),
    Mutant(
        "soft-cap-without-slope", LAYER, "turned * cap_slope(raw, cap)", "turned", "test_linear.py -k every_argument"
    ),
    Mutant("soft-cap-of-−∞", LAYER, "jnp.isinf(z) | jnp.isinf(cap), z", "jnp.isinf(cap), z", "test_linear.py -k every"),
    Mutant(
        "product-in-half-precision",
        LAYER,
        "    return lax.dot_general(x, w, numbers, precision=precision, preferred_element_type=dtypes.wide(x.dtype))",
        "    return dtypes.widen(lax.dot_general(x, w, numbers))",
        "test_linear.py -k common_dtype",
    ),
    Mutant("label-of-the-first-block", STREAMED, "labels - start", "labels", "test_linear.py -k 'blocks and classes'"),
    Mutant("drop-of-another-peak", STREAMED, "found.count * moved)", "0 * moved)", "test_linear.py -k every_argument"),
    Mutant("turn-of-another-peak", STREAMED, "(1 + excess) * moved", "0", "test_linear.py -k every_argument"),
    Mutant(
        "first-of-the-last-block",
        STREAMED,
        "jnp.where(same, found.first,",
        "jnp.where(~same, found.first,",
        "test_linear.py -k prediction",
    ),
    Mutant(
        "cotangents-of-float16-as-they-come",
        LINEAR,
        "if layer.inputs.dtype != jnp.float16:",
        "if True:",
        "test_linear.py -k 'half_precision and float16'",
    ),
    Mutant(
        "statistics-of-another-product",
        LINEAR,
        "_, moved = jax.jvp(whole, primals[:5], tangents[:5])",
        "moved = jax.tree.map(jnp.zeros_like, bars)",
        "test_linear_rules.py -k second_order",
    ),
    # rules
    Mutant(
        "rule-taken-apart-by-a-loop",
        "_core/rule.py",
        "jax.checkpoint(made, prevent_cse=False)(given)",
        "made(given)",
        "test_second_order.py -k 'inside_a_loop and log_softmax'",
    ),
    # attention
    Mutant(
        "attention-to-the-next-key",
        ADDRESSED,
        "(1, 1, 1, 1, keys), 4) <= index",
        "(1, 1, 1, 1, keys), 4) <= index + 1",
        "test_attention.py -k 'options and None-True'",
    ),
    Mutant(
        "attention-of-the-last-block-left-out",
        "_core/blocks.py",
        "jnp.minimum(whole, -(-needed // block))",
        "jnp.minimum(whole, needed // block)",
        "test_attention.py -k 'options and block11'",
    ),
    Mutant(
        "attention-hidden-key-leaks",
        ADDRESSED,
        "_read(s_bar, _settled(a.key))",
        "_read(s_bar, a.key)",
        "test_attention.py -k 'hidden and nan'",
    ),
    Mutant(
        "attention-value-not-marked",
        ADDRESSED,
        "key=jnp.where(bad, jnp.nan, a.key), value",
        "key=a.key, value",
        "test_attention.py -k poisoned",
    ),
    Mutant(
        "attention-peak-cancels",
        ADDRESSED,
        "jnp.where(here, 0, _with_each(g_v, part.value) - at) + level",
        "_with_each(g_v, part.value) - at + (level - 1) + 1",
        "test_attention.py -k confident",
    ),
    Mutant(
        "attention-tail-without-its-peak",
        ADDRESSED,
        "below + kept * (below_tail + own_tail * at_tail)",
        "below + kept * below_tail",
        "test_attention.py -k 'options and block11'",
    ),
    Mutant(
        "attention-log-z-constant",
        ADDRESSED,
        "z_bar + p * log_z_bar",
        "z_bar + 0 * p * log_z_bar",
        "test_attention.py -k 'options and None'",
    ),
    Mutant(
        "attention-beta-from-its-origin",
        ADDRESSED,
        "moved + log_z_bar * limits.held(origin, a.beta, stats.excess)",
        "moved + 0 * log_z_bar",
        "test_attention.py -k 'options and None'",
    ),
    Mutant(
        "attention-bias-before-the-order",
        ADDRESSED,
        "gap(s, a.beta, where, origin) + a.bias",
        "gap(s, a.beta, where, origin) + jnp.where(jnp.isinf(a.beta), 0, a.bias)",
        "test_attention.py -k 'limits and bias'",
    ),
    Mutant(
        "attention-bias-hides-nothing",
        ADDRESSED,
        "where & (bias != -jnp.inf)",
        "where",
        "test_attention.py -k bias_of_minus_infinity",
    ),
    Mutant(
        "attention-outlier-as-reference",
        ADDRESSED,
        "empty, leads = found.stats.excess == -1, found.rest <= found.own",
        "empty, leads = found.stats.excess == -1, found.rest >= 0",
        "test_attention.py -k outlier",
    ),
    Mutant(
        "attention-cotangent-leaks",
        ADDRESSED,
        "_write(_poisoned(p, g, where), _settled(g))",
        "_write(_poisoned(p, g, where), g)",
        "test_attention.py -k poisoned",
    ),
    Mutant(
        "attention-heads-mixed",
        ATTENTION,
        "q.reshape(*q.shape[:2], k, n // k, q.shape[-1]).transpose(0, 2, 3, 1, 4)",
        "q.reshape(*q.shape[:2], n // k, k, q.shape[-1]).transpose(0, 3, 2, 1, 4)",
        "test_attention.py -k 'options and None'",
    ),
    Mutant(
        "attention-keeps-its-scores",
        ATTENTION,
        "(keys if few else KEYS)",
        "keys",
        "test_attention.py -k temporaries",
    ),
    Mutant(
        "judge-doubles-the-bound",
        JUDGE,
        "abs(Decimal(number) - exact) <= bound",
        "abs(Decimal(number) - exact) <= 3 * bound",
        "test_conformance.py -k so_many_bounds",
    ),
    Mutant(
        "judge-takes-any-infinity",
        JUDGE,
        "(exact > 0) == (number > 0)",
        "True",
        "test_conformance.py -k infinities_and_nan",
    ),
    Mutant(
        "judge-forgets-a-missing-gradient",
        JUDGE,
        "if found.outcome == PASS and missing:",
        "if found.outcome == FAIL and missing:",
        "test_conformance.py -k gradients_are_judged",
    ),
    Mutant(
        "judge-takes-any-dtype",
        JUDGE,
        "if dtype != expected.dtype:",
        "if dtype is None:",
        "test_conformance.py -k shape_and_dtype",
    ),
    Mutant(
        "conformance-in-few-digits",
        "../experiments/conformance/write.py",
        "DIGITS = 30",
        "DIGITS = 20",
        "test_conformance.py -k what_is_generated",
    ),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the mutation run."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Mutants to run; all if none is named."""
    list: bool = False
    """Show them and what has to kill each; run nothing."""
    jobs: int = 2
    """How many run at the same time."""


def copy_to(source: Path, there: Path) -> Path:
    """What the tests read, without compiled files, which could be older than a mutation made in the same second."""
    there.mkdir()
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / name, there / name)
    return there


def run_tests(root: Path, selection: str) -> tuple[int | None, str, str]:
    """(exit status of pytest, None past the time limit; the test that failed and why, in a line; the output)."""
    file, *options = shlex.split(selection)
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
    try:
        run = subprocess.run(
            [*PYTEST, f"tests/{file}", *options],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return None, "", ""
    failed = re.search(r"^(?:FAILED|ERROR) (.*)", run.stdout, re.MULTILINE)
    return run.returncode, failed[1] if failed else "", run.stdout


def unions(mutants: Iterable[Mutant]) -> list[str]:
    """The selections of all, one for each file."""
    keywords = defaultdict(dict)
    for mutant in mutants:
        file, _, keyword = shlex.split(mutant.tests)
        keywords[file][f"({keyword})"] = None
    return [f"{file} -k {shlex.quote(' or '.join(found))}" for file, found in keywords.items()]


def fate(mutant: Mutant, source: Path) -> tuple[str, str]:
    """What becomes of it, and of which test: "killed" is the only good word."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy_to(source, Path(folder) / "copy")
        mutant.apply(root)
        status, failed, _ = run_tests(root, mutant.tests)
    if status is None:
        return "TIMED OUT", mutant.tests
    if status == 0:
        return "SURVIVED", mutant.tests
    if status != 1 or not failed or NO_PROGRAM.search(failed.partition(" - ")[2]):
        return "BROKEN", failed or f"pytest ended with {status}: {mutant.tests}"
    return "killed", failed.partition(" - ")[0].removeprefix("tests/")


def in_parallel(jobs: int, what: str, unit: str, tasks: dict) -> dict:
    """{key: result} of {key: (function, *arguments)}, with a progress bar."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(*task): key for key, task in tasks.items()}
        done = {futures[f]: f.result() for f in tqdm(as_completed(futures), total=len(futures), desc=what, unit=unit)}
    return {key: done[key] for key in tasks}


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    rows = [("mutant", "fate", "test"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {word:<{widths[1]}}  {test}" for name, word, test in rows)


def main(config: Config) -> int:
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in config.names if name not in by_name]
    if unknown or len(by_name) != len(MUTANTS):
        print(f"no such mutant: {', '.join(unknown)}" if unknown else "two mutants have one name", file=sys.stderr)
        return 1
    chosen = [by_name[name] for name in dict.fromkeys(config.names)] or MUTANTS
    if config.list:
        print(table((mutant.name, mutant.path, mutant.tests) for mutant in chosen))
        return 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = copy_to(ROOT, Path(folder) / "source")  # what is edited meanwhile does not matter
        problems = [f"{mutant.name}: {problem}" for mutant in chosen if (problem := mutant.problem(source))]
        if problems:
            print("\n".join(problems), file=sys.stderr)
            return 1
        selections = unions(chosen)
        clean = in_parallel(config.jobs, "without a mutation", "file", {s: (run_tests, source, s) for s in selections})
        wrong = {s: output for s, (status, _, output) in clean.items() if status != 0}
        if wrong:
            print("\n".join(f"fails without a mutation: {s}\n{output}" for s, output in wrong.items()), file=sys.stderr)
            return 1
        fates = in_parallel(config.jobs, "mutants", "mutant", {m.name: (fate, m, source) for m in chosen})
    rows = sorted(((name, *f) for name, f in fates.items()), key=lambda row: row[1] == "killed")
    killed = sum(word == "killed" for _, word, _ in rows)
    print(table(rows))
    print(f"{killed} of {len(rows)} killed in {time.monotonic() - start:.0f} s")
    return int(killed < len(rows))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
