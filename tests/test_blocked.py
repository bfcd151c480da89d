"""The excess by blocks of classes, which XLA:CPU runs for large arrays: the same contract, on small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from jsoftmax._partition import blocked
from tests import bounds, inputs, oracle, registry
from tests.marks import slow

P = jax.sharding.PartitionSpec
WITH_LABELS = "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"
CASES = [case for case in registry.CASES if registry.label(case) in ("logsumexp", "log_softmax", *WITH_LABELS)]
# three blocks; a prime, so that there is a shorter block behind them; a divisor that is not the usual one
SIZES = (384, 389, 3 * 125)
pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the formula is that of CPU")


@pytest.fixture(autouse=True)
def from_the_first_logit_on(monkeypatch):
    monkeypatch.setattr(blocked, "LARGE", 1)
    jax.clear_caches()
    yield
    jax.clear_caches()


def rows(size):
    """Peaks in every block and at its edges, alone and tied in one block and over two, and what is no number."""
    x = np.tile(np.linspace(-3, 3, size).astype(np.float32), (14, 1))
    for i, at in enumerate((0, 127, 128, 255, size - 1)):
        x[i] -= 20
        x[i, at] = 4
    x[5, [3, 9]] = x[6, [3, size - 1]] = x[7, [130, 300]] = 30
    x[8] = 0.5
    x[9] = -np.inf
    x[10, ::2] = -np.inf
    x[11, 200], x[12, size - 1] = np.nan, np.inf
    x[13] = -np.inf
    x[13, size - 1] = 2
    return x


def sample(case, x, beta, label=0):
    arrays = {case.logits: x, "beta": np.float32(beta)}
    if case.name == registry.INTEGER:
        arrays["labels"] = np.full(x.shape[:1], label, np.int32)
    if case.name == "softmax_cross_entropy":
        q = np.abs(inputs.cotangent(x.shape, 2)).astype(np.float32)
        arrays["labels"] = np.where(np.isfinite(x), q / q.sum(-1, keepdims=True), np.float32(0))
    return registry.Sample("blocks", arrays, {"axis": -1})


@pytest.mark.parametrize("size", [pytest.param(n, marks=[] if n == 389 else pytest.mark.slow) for n in SIZES])
@pytest.mark.parametrize(
    "case",
    # the losses are made of it
    [pytest.param(c, marks=pytest.mark.slow if c.name == "logsumexp" else (), id=registry.label(c)) for c in CASES],
)
def test_every_kind_of_row(case, size):
    x = rows(size)
    assert blocked.suits(jnp.asarray(x), None, (1,))
    run = jax.jit(lambda arrays: registry.call(case.name, (("axis", -1),), arrays))
    # on the peaks and beside them, at the edges of blocks, and where there is no class
    labels = (-1, 0, 1, 127, 128, 130, 383, size - 1, size) if case.name == registry.INTEGER else (0,)
    for beta in (1.0, -0.7, 0.0, np.inf, -np.inf):
        # the losses of all labels are in one log-softmax: the digits take most of the time
        losses = -oracle.log_softmax(x, beta=np.float32(beta)) if case.name == registry.INTEGER else None
        for label in labels:
            s = sample(case, x, beta, label)
            if losses is None:
                expected = registry.exact(case, s)
            else:
                expected = losses[:, label] if 0 <= label < size else np.full(len(x), np.nan)
            bounds.check_value(case, s, run(s.arrays), expected)


def test_what_it_suits():
    x = jax.ShapeDtypeStruct((4, 512), jnp.float32)
    assert blocked.suits(x, None, (1,)) and blocked._block(512) == 128 and blocked._block(50257) == 128
    assert blocked._block(1000) == 125 and blocked._block(512 * 3) == 128
    assert not blocked.suits(x, None, (0,)) and not blocked.suits(x, np.ones((4, 512), bool), (1,))
    assert not blocked.suits(jax.ShapeDtypeStruct((4, 512), jnp.bfloat16), None, (1,))
    assert not blocked.suits(jax.ShapeDtypeStruct((4, 200), jnp.float32), None, (1,))


@pytest.mark.parametrize("name", [slow("logsumexp"), "log_softmax", registry.INTEGER])
def test_nothing_of_the_size_of_the_logits(name):
    x = jax.ShapeDtypeStruct((64, 4096), np.float32)
    labels = [jax.ShapeDtypeStruct((64,), np.int32)] if name == registry.INTEGER else []
    compiled = jax.jit(getattr(jsoftmax, name)).lower(x, *labels).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= x.size


@pytest.mark.parametrize(
    ("spec", "case"),
    [
        pytest.param(spec, case, marks=marks, id=f"{name}-{registry.label(case)}")
        for case, fast in ((CASES[0], "rows"), (CASES[-1], "classes"))
        for name, spec in (("rows", P("data")), ("classes", P(None, "data")))
        for marks in [() if name == fast else pytest.mark.slow]
    ],
)
def test_sharded_logits_are_not_gathered(spec, case):
    """Where the classes are spread, a block is looked up on the device that has it."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = np.linspace(-3, 3, 2 * 4096).reshape(2, 4096).astype(np.float32)
    x[:, 77] = 5
    expected = np.concatenate([registry.exact(case, sample(case, x, 1.0, 3000))] * 8)  # of many digits: of two rows
    s = sample(case, np.tile(x, (8, 1)), 1.0, 3000)
    arrays = s.arrays | {case.logits: jax.device_put(s.arrays[case.logits], jax.NamedSharding(mesh, spec))}
    compiled = jax.jit(lambda arrays: registry.call(case.name, (("axis", -1),), arrays)).lower(arrays).compile()
    assert not [line for line in compiled.as_text().splitlines() if "all-gather(" in line and "4096" in line]
    bounds.check_value(case, s, compiled(arrays), expected)


@pytest.mark.parametrize("mode", ["value", "pull-back"])
def test_softmax_is_as_few_kernels_as_that_of_jax(mode):
    """One, where XLA:CPU fuses a row's sums with what is made of them; a choice between the sums would end it."""

    def kernels(softmax):
        def pulled(x, g):
            return jax.vjp(softmax, x)[1](g) if mode == "pull-back" else softmax(x)

        x = jax.ShapeDtypeStruct((blocked.FUSED, 64), np.float32)
        return jax.jit(pulled).lower(x, x).compile().as_text().count(" fusion(")

    assert kernels(jsoftmax.softmax) <= kernels(jax.nn.softmax)


def test_the_gradient_takes_the_place_of_donated_logits():
    def value_and_gradient(g, x, labels):
        y, pull = jax.vjp(lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels), x)
        return y, pull(g)

    x, rows = jax.ShapeDtypeStruct((1024, 32000), np.float32), jax.ShapeDtypeStruct((1024,), np.float32)
    labels = jax.ShapeDtypeStruct((1024,), np.int32)
    compiled = jax.jit(value_and_gradient, donate_argnums=1).lower(rows, x, labels).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= x.size // 100
