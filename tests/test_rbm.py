"""Restricted Boltzmann machines beside the enumeration of all states of both layers in float64."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from tests import tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
V, H = 4, 3
VALUE, GRADIENT = tolerance.Bound(32, 4), tolerance.Bound(96, 8)
BETAS = (slow(1.0), 0.6, -0.8)
INF = np.inf


def states(n):
    return np.array(list(itertools.product((0, 1), repeat=n)), np.float64).reshape(2**n, n)


def machine(v=V, h=H, scale=1.0):
    rng = np.random.default_rng(0)
    return tuple(np.float32(scale * rng.standard_normal(shape)) for shape in ((v, h), (v,), (h,)))


def energies(weight, a, b):
    """[2^V, 2^H]."""
    vs, hs = states(len(a)), states(len(b))
    return -(vs @ np.float64(weight) @ hs.T) - (vs @ np.float64(a))[:, None] - hs @ np.float64(b)


def joint(parameters, beta):
    """(P(v, h), log Z)."""
    e = -beta * energies(*parameters)
    log_z = np.log(np.exp(e - e.max()).sum()) + e.max()
    return np.exp(e - log_z), log_z


def moments(parameters, beta):
    """⟨v h⟩, ⟨v⟩ and ⟨h⟩ of the model."""
    p, _ = joint(parameters, beta)
    return states(V).T @ p @ states(H), p.sum(1) @ states(V), p.sum(0) @ states(H)


def of_data(v, parameters, beta):
    """The same of data, with the probabilities of h."""
    weight, _, b = map(np.float64, parameters)
    h = 1 / (1 + np.exp(-beta * (v @ weight + b)))
    return np.einsum("nv,nh->vh", v, h) / len(v), v.mean(0), h.mean(0)


def check(found, expected, what, bound=VALUE):
    expected = np.asarray(expected, np.float64)
    tolerance.check(found, expected, np.float32, bound, what, scale=np.abs(expected).max(initial=0.0) + 1)


DATA = states(V)[[3, 5, 6, 12, 12, 9]]


# energies and probabilities ------------------------------------------------------------------------------------------


def test_energy_of_every_state():
    parameters = machine()
    v, h = np.meshgrid(range(2**V), range(2**H), indexing="ij")
    found = jsoftmax.rbm_energy(np.float32(states(V)[v]), np.float32(states(H)[h]), *parameters)
    check(found, energies(*parameters), "E")


@pytest.mark.parametrize("beta", BETAS)
def test_free_energy_is_that_of_the_visible_units(beta):
    """−β F(v) − log Z is log Σ_h P(v, h), and log Z the same from either layer."""
    parameters = machine()
    p, log_z = joint(parameters, beta)
    free = jsoftmax.rbm_free_energy(np.float32(states(V)), *parameters, beta=beta)
    check(free, -(np.log(p.sum(1)) + log_z) / beta, "F")
    weight, a, b = parameters
    for found in (
        jsoftmax.rbm_log_partition(weight, a, b, beta=beta),
        jsoftmax.rbm_log_partition(weight.T, b, a, temperature=1 / beta),
    ):
        check(found, log_z, "log Z")


@pytest.mark.parametrize("beta", BETAS)
def test_gradient_of_the_free_energy(beta):
    """−v ⊗ P(h | v), and H(h | v) / β² by β."""
    parameters, v = machine(), np.float32(DATA)
    g = np.linspace(0.5, 1.5, len(v))
    loss = lambda w, a, b, k, v: jnp.vdot(np.float32(g), jsoftmax.rbm_free_energy(v, w, a, b, beta=k))  # noqa: E731
    found = jax.jit(jax.grad(loss, (0, 1, 2, 3, 4)))(*map(jnp.asarray, parameters), jnp.float32(beta), jnp.asarray(v))
    weight, a, b = map(np.float64, parameters)
    t = beta * (DATA @ weight + b)
    h = 1 / (1 + np.exp(-t))
    entropies = np.log1p(np.exp(-t)) * h + np.log1p(np.exp(t)) * (1 - h)
    check(found[0], -np.einsum("n,nv,nh->vh", g, DATA, h), "W", GRADIENT)
    check(found[1], -g @ DATA, "a", GRADIENT)
    check(found[2], -g @ h, "b", GRADIENT)
    check(found[3], g @ entropies.sum(1) / beta**2, "β", GRADIENT)
    check(found[4], -g[:, None] * (a + h @ weight.T), "v", GRADIENT)


@pytest.mark.parametrize("beta", [*BETAS, 0.0])
def test_gradient_of_the_log_partition(beta):
    """β times the moments of the model, minus the mean energy by β."""
    parameters = machine()
    f = lambda w, a, b, k: jsoftmax.rbm_log_partition(w, a, b, beta=k)  # noqa: E731
    value, found = jax.jit(jax.value_and_grad(f, (0, 1, 2, 3)))(*map(jnp.asarray, parameters), jnp.float32(beta))
    p, log_z = joint(parameters, beta)
    check(value, log_z, "log Z")
    for bar, e in zip(found, moments(parameters, beta), strict=False):
        check(bar, beta * e, "a moment", GRADIENT)
    check(found[3], -(p * energies(*parameters)).sum(), "β", GRADIENT)


@pytest.mark.parametrize("beta", BETAS)
def test_conditional_probabilities(beta):
    parameters = weight, a, b = machine()
    p, _ = joint(parameters, beta)
    h = jsoftmax.rbm_hidden_probability(np.float32(states(V)), weight, b, beta=beta)
    check(h, p @ states(H) / p.sum(1, keepdims=True), "h given v")
    v = jsoftmax.rbm_visible_probability(np.float32(states(H)), weight, a, temperature=1 / beta)
    check(v, p.T @ states(V) / p.sum(0)[:, None], "v given h")


def test_limits_of_beta():
    weight, a, b = parameters = machine()
    v, e = np.float32(states(V)), energies(*parameters)
    check(jsoftmax.rbm_free_energy(v, *parameters, temperature=0.0), e.min(1), "ground state")
    check(jsoftmax.rbm_free_energy(v, *parameters, beta=-INF), e.max(1), "highest state")
    assert np.all(jsoftmax.rbm_free_energy(v, *parameters, beta=0.0) == -INF)
    alone = jsoftmax.rbm_free_energy(v, weight[:, :0], a, b[:0], beta=0.0)
    check(alone, -states(V) @ np.float64(a), "no hidden units")
    check(jsoftmax.rbm_log_partition(weight[:, :0], a, b[:0]), np.log1p(np.exp(np.float64(a))).sum(), "no hidden units")
    for beta in (0.0, INF, -INF):
        loss, _ = jsoftmax.rbm_contrastive_divergence(jax.random.key(0), v, *parameters, beta=beta)
        assert np.isfinite(loss)
        assert np.isfinite(jsoftmax.rbm_pseudo_log_likelihood(None, v[:1], *parameters, beta=0.0)).all()
    each = jsoftmax.rbm_free_energy(v[:3], *parameters, beta=np.array([1.0, 0.0, INF]))
    check(each[::2], [-np.log(np.exp(-e[0]).sum()), e[2].min()], "a β of each")
    assert each[1] == -INF


def test_log_partition_in_blocks():
    """More states than are there at once; a weight that has them overflow without a peak."""
    parameters = machine(13, 2)
    _, log_z = joint(parameters, 1.0)
    check(jsoftmax.rbm_log_partition(parameters[0].T, parameters[2], parameters[1]), log_z, "2 units")
    wide = machine(12, 11)
    weight, a, b = map(np.float64, wide)
    h = states(11)  # and of the 12 units the sums, for they are independent given these
    fields = a + h @ weight.T
    log_p = h @ b + np.logaddexp(0, fields).sum(1)
    log_z = np.logaddexp.reduce(log_p)
    found, bar = jax.jit(jax.value_and_grad(jsoftmax.rbm_log_partition))(*wide)
    check(found, log_z, "11 units")
    v = np.exp(log_p - log_z)[:, None] / (1 + np.exp(-fields))
    check(bar, v.T @ h, "their moments", GRADIENT)
    assert np.isfinite(jsoftmax.rbm_log_partition(*machine(3, 2, 1e3)))


# sampling ----------------------------------------------------------------------------------------------------------


def transitions(parameters, beta):
    """P(v → v') of a step of Gibbs sampling, from the operators' own conditional probabilities: [2^V, 2^V]."""
    weight, a, b = parameters
    vs, hs = states(V), states(H)
    p_h = np.float64(jsoftmax.rbm_hidden_probability(np.float32(vs), weight, b, beta=beta))
    p_v = np.float64(jsoftmax.rbm_visible_probability(np.float32(hs), weight, a, beta=beta))
    to_h = np.prod(np.where(hs == 1, p_h[:, None], 1 - p_h[:, None]), -1)
    to_v = np.prod(np.where(vs == 1, p_v[:, None], 1 - p_v[:, None]), -1)
    return to_h @ to_v


@pytest.mark.parametrize("beta", BETAS)
def test_boltzmann_is_what_gibbs_sampling_leaves_alone(beta):
    """In detailed balance: π(v) P(v → v') is symmetric."""
    p, _ = joint(machine(), beta)
    flow = p.sum(1)[:, None] * transitions(machine(), beta)
    check(jnp.float32(flow), flow.T, "detailed balance")
    check(jnp.float32(flow.sum(0)), p.sum(1), "stationary")


def expected_gradient(parameters, beta, steps, start):
    """Of −β⁻¹ times CD-k, with the law of the samples instead of samples; `start` a law over visible states."""
    law = start @ np.linalg.matrix_power(transitions(parameters, beta), steps)
    weight, _, b = map(np.float64, parameters)
    h = 1 / (1 + np.exp(-beta * (states(V) @ weight + b)))
    return np.einsum("n,nv,nh->vh", law, states(V), h) - of_data(DATA, parameters, beta)[0]


def test_contrastive_divergence_goes_to_the_likelihood():
    """As k grows, its expectation: exactly, by powers of the transition matrix."""
    parameters, beta = machine(), 0.6
    start = np.mean([np.all(states(V) == v, 1) for v in DATA], 0)
    exact = moments(parameters, beta)[0] - of_data(DATA, parameters, beta)[0]
    errors = [np.abs(expected_gradient(parameters, beta, k, start) - exact).max() for k in (1, 4, 16, 64)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    check(jnp.float32(expected_gradient(parameters, beta, 64, start)), exact, "CD-64")
    # which is the gradient of the likelihood, by two finished operators
    v = np.float32(DATA)

    def minus_log_likelihood(w):
        free = jsoftmax.rbm_free_energy(v, w, *parameters[1:], beta=beta).mean()
        return free + jsoftmax.rbm_log_partition(w, *parameters[1:], beta=beta) / beta

    check(jax.grad(minus_log_likelihood)(jnp.asarray(parameters[0])), exact, "likelihood", GRADIENT)


@pytest.mark.parametrize("steps", [1, 3])
def test_samples_have_the_law_of_their_steps(steps):
    """40000 chains from one state: counts within five standard errors, and in χ² within five of its own."""
    parameters, beta, many = machine(), 0.6, 40_000
    start = np.broadcast_to(states(V)[5], (many, V)).astype(np.float32)
    sample, p = jsoftmax.rbm_gibbs(jax.random.key(steps), start, *parameters, steps=steps, beta=beta)
    assert set(np.unique(sample)) == {0, 1} and sample.shape == p.shape == start.shape
    index = (np.asarray(sample) @ 2 ** np.arange(V)[::-1]).astype(int)
    law = np.linalg.matrix_power(transitions(parameters, beta), steps)[5]
    counts = np.bincount(index, minlength=2**V)
    z = (counts - many * law) / np.sqrt(many * law * (1 - law))
    assert np.abs(z).max() < 5
    chi2 = ((counts - many * law) ** 2 / (many * law)).sum()
    assert abs(chi2 - (2**V - 1)) < 5 * np.sqrt(2 * (2**V - 1))
    # what they were drawn from has their mean
    assert np.abs((np.asarray(sample) - np.asarray(p)).mean(0)).max() < 5 * 0.5 / np.sqrt(many)


def test_chains_are_apart_and_keys_decide():
    start = jnp.zeros((2, 50, V))
    of = lambda key: jsoftmax.rbm_gibbs(key, start, *machine(), steps=2)[0]  # noqa: E731
    first, again, other = of(jax.random.key(1)), of(jax.random.key(1)), of(jax.random.key(2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])
    keys = jax.random.split(jax.random.key(3), 2)
    each = jax.vmap(lambda k, v: jsoftmax.rbm_gibbs(k, v, *machine(), steps=2)[0])(keys, start)
    assert np.array_equal(each[1], jsoftmax.rbm_gibbs(keys[1], start[1], *machine(), steps=2)[0])
    moved = jax.grad(lambda w: jsoftmax.rbm_gibbs(keys[0], start[0], w, *machine()[1:], steps=2)[1].sum())
    assert not moved(jnp.asarray(machine()[0])).any(), "constants of every derivative"


def test_sampling_at_the_limits_of_beta():
    """T = 0 goes downhill and ends; β = 0 draws evenly; each chain at its own β."""
    parameters = machine()
    free = lambda v: np.asarray(jsoftmax.rbm_free_energy(v, *parameters, temperature=0.0))  # noqa: E731
    v = jnp.asarray(np.float32(states(V)))
    for _ in range(4):
        after, p = jsoftmax.rbm_gibbs(jax.random.key(0), v, *parameters, steps=1, temperature=0.0)
        assert np.all(free(after) <= free(v)) and set(np.unique(p)) <= {0, 1}
        v = after
    beta = np.repeat(np.float32([0, INF]), 2000)
    sample, p = jsoftmax.rbm_gibbs(jax.random.key(0), jnp.zeros((4000, V)), *parameters, steps=8, beta=beta)
    assert np.all(p[:2000] == 0.5) and len(np.unique(sample[2000:], axis=0)) == 1
    assert np.abs(sample[:2000].mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(2000)


# learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("beta", [slow(1.0), 0.6])
def test_gradient_of_contrastive_divergence(persistent, beta):
    """⟨v h⟩ of the samples, which are returned, minus ⟨v h⟩ of the data: the samples are constants."""
    parameters = tuple(map(jnp.asarray, machine()))
    data = np.float32(DATA) if not persistent else np.float32(0.9 * DATA + 0.05)
    chains = np.float32(states(V)[[1, 7, 8]]) if persistent else None

    def loss(w, a, b, v):
        return jsoftmax.rbm_contrastive_divergence(jax.random.key(4), v, w, a, b, steps=2, chains=chains, beta=beta)

    (value, samples), bars = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))(
        *parameters, jnp.asarray(data)
    )
    assert samples.shape == ((3, V) if persistent else data.shape)
    free = [
        np.float64(jsoftmax.rbm_free_energy(v, *parameters, beta=beta)).mean() for v in (jnp.asarray(data), samples)
    ]
    check(value, free[0] - free[1], "loss")
    wanted = zip(
        of_data(np.float64(samples), parameters, beta), of_data(np.float64(data), parameters, beta), strict=True
    )
    for name, bar, (model, of) in zip("Wab", bars, wanted, strict=False):
        check(bar, model - of, name, GRADIENT)
    start = data if chains is None else chains
    again, _ = jsoftmax.rbm_gibbs(jax.random.key(4), start, *parameters, steps=2, beta=beta)
    assert np.array_equal(samples, again)
    weight, a, b = map(np.float64, parameters)
    h = 1 / (1 + np.exp(-beta * (data @ weight + b)))
    check(bars[3], -(a + h @ weight.T) / len(data), "the data alone", GRADIENT)


def test_training_learns():
    """A few hundred steps of PCD on three patterns: their likelihood, exactly."""
    rng = np.random.default_rng(2)
    parameters = tuple(jnp.asarray(np.float32(0.01 * rng.standard_normal(p.shape))) for p in machine())
    data = np.float32(DATA[[0, 3, 3]])
    chains = jnp.asarray(np.float32(rng.integers(0, 2, (30, V))))

    def likelihood(p):
        return float(-jsoftmax.rbm_free_energy(data, *p).mean() - jsoftmax.rbm_log_partition(*p))

    @jax.jit
    def train(parameters, chains):
        def step(state, key):
            loss = lambda p, c: jsoftmax.rbm_contrastive_divergence(key, data, *p, chains=c)  # noqa: E731
            bars, chains = jax.grad(loss, has_aux=True)(*state)
            return (tuple(p - jnp.float32(0.1) * g for p, g in zip(state[0], bars, strict=True)), chains), None

        return jax.lax.scan(step, (parameters, chains), jax.random.split(jax.random.key(0), 400))[0][0]

    best = (np.log(1 / 3) + 2 * np.log(2 / 3)) / 3
    before, after = likelihood(parameters), likelihood(train(parameters, chains))
    assert before < -2.5 and best - 0.5 < after <= best


@pytest.mark.parametrize("beta", [*BETAS, 0.0])
def test_pseudo_likelihood(beta):
    """All units, and one at random: of its expectation over all keys the former."""
    parameters = machine()
    log_p = np.log(joint(parameters, beta)[0].sum(1)).reshape((2,) * V)
    terms = [log_p - np.logaddexp.reduce(log_p, axis=i, keepdims=True) for i in range(V)]
    v = np.float32(states(V))
    check(
        jsoftmax.rbm_pseudo_log_likelihood(None, v, *parameters, beta=beta), sum(terms).ravel(), "all units", GRADIENT
    )
    drawn = jsoftmax.rbm_pseudo_log_likelihood(jax.random.key(0), np.repeat(v[:1], 200, 0), *parameters, beta=beta)
    wanted = V * np.float64([t.ravel()[0] for t in terms])
    nearest = np.abs(np.float64(drawn)[:, None] - wanted).argmin(1)
    check(drawn, wanted[nearest], "one of them", GRADIENT)
    assert len(np.unique(nearest)) == len(np.unique(np.round(wanted, 6)))


def test_gradient_of_the_pseudo_likelihood():
    """By difference quotients of its definition in float64."""
    parameters, v = machine(), np.float32(DATA)

    def exact(weight):
        log_p = np.logaddexp.reduce(-energies(weight, *parameters[1:]), axis=1).reshape((2,) * V)
        terms = sum(log_p - np.logaddexp.reduce(log_p, axis=i, keepdims=True) for i in range(V)).ravel()
        return terms[(DATA @ 2 ** np.arange(V)[::-1]).astype(int)].mean()

    f = lambda w: jsoftmax.rbm_pseudo_log_likelihood(None, v, w, *parameters[1:]).mean()  # noqa: E731
    found, h = jax.grad(f)(jnp.asarray(parameters[0])), 1e-5
    for i, j in np.ndindex(V, H):
        d = np.zeros((V, H))
        d[i, j] = h
        w = np.float64(parameters[0])
        slope = np.float64((exact(w + d) - exact(w - d)) / (2 * h))
        check(found[i, j], slope, f"W[{i}, {j}]", GRADIENT)


# as the other operators --------------------------------------------------------------------------------------------


def test_half_precision_integers_and_float64():
    parameters = tuple(p.astype(ml_dtypes.bfloat16) for p in machine())
    wide = tuple(p.astype(np.float32) for p in parameters)
    v = np.int32(DATA)
    for f in (
        lambda v, *p: jsoftmax.rbm_free_energy(v, *p),
        lambda v, w, a, b: jsoftmax.rbm_hidden_probability(v, w, b),
        lambda v, *p: jsoftmax.rbm_gibbs(jax.random.key(0), v, *p, steps=3)[0],
        lambda v, *p: jsoftmax.rbm_contrastive_divergence(jax.random.key(0), v, *p)[0],
        lambda v, *p: jsoftmax.rbm_pseudo_log_likelihood(None, v, *p),
        lambda v, *p: jsoftmax.rbm_log_partition(*p),
    ):
        assert np.array_equal(f(v, *wide), f(v.astype(np.float32), *wide))
        check(f(v.astype(ml_dtypes.bfloat16), *parameters), f(v, *wide), "bfloat16")
    with jax.enable_x64(True):
        free = jsoftmax.rbm_free_energy(v, *(p.astype(np.float64) for p in machine()), beta=np.float32(0.5))
        assert free.dtype == np.float64
        assert jsoftmax.rbm_log_partition(*(p.astype(np.float64) for p in machine()), beta=0.5).dtype == np.float64


def test_no_beta_compiles_anew():
    traced = []

    @jax.jit
    def step(key, v, parameters, beta):
        traced.append(1)
        loss = lambda p, k: jsoftmax.rbm_contrastive_divergence(key, v, *p, beta=k)[0]  # noqa: E731
        return jax.grad(loss, (0, 1))(parameters, beta)

    for beta in (1.0, 0.0, -1.0, INF):
        found = step(jax.random.key(0), np.float32(DATA), machine(), beta)
        assert all(np.isfinite(bar).all() for bar in jax.tree.leaves(found))
    assert len(traced) == 1


def test_forward_mode_and_second_order():
    """Forward over reverse is reverse over forward; both of the log-partition are β² times a covariance."""
    parameters, beta = tuple(map(jnp.asarray, machine())), 0.6
    d = jnp.asarray(np.random.default_rng(5).standard_normal((V, H)), jnp.float32)
    f = lambda w: jsoftmax.rbm_log_partition(w, *parameters[1:], beta=beta)  # noqa: E731
    p, _ = joint(parameters, beta)
    of = np.einsum("nv,mh->nmvh", states(V), states(H))
    along = np.einsum("nmvh,vh->nm", of, np.float64(d))
    mean = np.einsum("nm,nmvh->vh", p, of)
    covariance = np.einsum("nm,nmvh,nm->vh", p, of, along) - mean * (p * along).sum()
    check(jax.jvp(jax.grad(f), (parameters[0],), (d,))[1], beta**2 * covariance, "Hessian", GRADIENT)
    with jsoftmax.forward_mode():
        slope = jax.jvp(f, (parameters[0],), (d,))[1]
        free = lambda w: jsoftmax.rbm_free_energy(np.float32(DATA), w, *parameters[1:], beta=beta)  # noqa: E731
        each = jax.jvp(free, (parameters[0],), (d,))[1]
    check(slope, beta * (mean * np.float64(d)).sum(), "jvp", GRADIENT)
    h = np.float64(jsoftmax.rbm_hidden_probability(np.float32(DATA), parameters[0], parameters[2], beta=beta))
    check(each, -np.einsum("nv,nh,vh->n", DATA, h, np.float64(d)), "jvp of F", GRADIENT)


@pytest.mark.parametrize("check_vma", [True, slow(False)])
def test_data_of_several_devices(check_vma):
    """Chains of each device from its own key; the gradient is the mean of theirs."""
    parameters = tuple(map(jnp.asarray, machine()))
    data, keys = np.float32(DATA), jax.random.split(jax.random.key(0), 2)
    P = PartitionSpec("data")

    def own(key, v, *p):
        loss, samples = jsoftmax.rbm_contrastive_divergence(key[0], v, *p)
        return jax.lax.pmean(loss, "data"), samples

    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    specs = (P, P, *(PartitionSpec() for _ in parameters))
    spread = jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=(PartitionSpec(), P), check_vma=check_vma)
    (loss, samples), bars = jax.jit(jax.value_and_grad(spread, (2, 3, 4), has_aux=True))(keys, data, *parameters)
    each = [
        jax.value_and_grad(jsoftmax.rbm_contrastive_divergence, (2, 3, 4), has_aux=True)(k, v, *parameters)
        for k, v in zip(keys, (data[:3], data[3:]), strict=True)
    ]
    assert np.array_equal(samples, np.concatenate([s for (_, s), _ in each]))
    verify.assert_same(
        loss, np.mean([np.float64(value) for (value, _), _ in each]).astype(np.float32), GRADIENT, "loss"
    )
    mean = jax.tree.map(lambda *a: np.mean(a, 0), *(b for _, b in each))
    verify.assert_same(bars, mean, GRADIENT, "gradient")
