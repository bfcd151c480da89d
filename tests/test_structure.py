"""How the operators are built: what they save, which operations they are made of, when they compile, where exp is.

Read from the pull-back that JAX holds, from jaxprs, from JAX's own events and from the source.
"""

import ast
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import jsoftmax
from tests import inputs, registry, tolerance
from tests.marks import fast

CASES = pytest.mark.parametrize("case", registry.CASES, ids=registry.label)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16], ids=lambda d: np.dtype(d).name)
INT, DIST = registry.INTEGER, "softmax_cross_entropy"
PACKAGE = pathlib.Path(jsoftmax.__file__).parent


def vjp(case, s, arrays):
    """(value, pull-back) of the operator in its differentiable arguments."""
    rest = {k: v for k, v in arrays.items() if k not in case.differentiable}
    return jax.vjp(
        lambda *d: registry.call(
            case.name, tuple(s.static.items()), dict(zip(case.differentiable, d, strict=True)) | rest
        ),
        *(jnp.asarray(arrays[k]) for k in case.differentiable),
    )


def program(case, dtype, row="prime", beta=1.0):
    """(value and cotangents as a function of all arrays, those arrays)."""
    s = registry.sample(case, inputs.BY_NAME[row], np.dtype(dtype), beta)

    def value_and_cotangents(arrays):
        y, pull = vjp(case, s, arrays)
        return y, pull(jnp.ones(y.shape, y.dtype))

    return value_and_cotangents, s.arrays


# what is saved -----------------------------------------------------------------------------------------------------


def check_saved(case, s, arrays, rows):
    # the pull-back is a pytree whose leaves are what it keeps
    saved = jax.tree.leaves(jax.eval_shape(lambda arrays: vjp(case, s, arrays)[1], arrays))
    size = arrays[case.logits].size
    large = [leaf for leaf in saved if leaf.size >= size]
    arguments = [arrays[k] for k in (case.logits, "labels", "b", "where") if k in arrays and arrays[k].size == size]
    assert sorted((a.dtype.name, a.shape) for a in large) == sorted((a.dtype.name, a.shape) for a in arguments)
    labels = 4 + 1 if case.name == INT else 0  # as int32, and whether it is ignored
    masses = 2 * 4 if case.name == DIST else 0  # of the distribution, of all classes and beside the peak
    beside = sum(leaf.size * leaf.dtype.itemsize for leaf in saved if leaf.size < size)
    assert beside <= rows * (2 * 4 + labels + masses) + 4, "beside the arguments: peak, excess and one β"


@CASES
@DTYPES
def test_saves_its_arguments_and_a_few_numbers_a_row(case, dtype):
    """129 classes: an array of the size of the logits would not pass for a few numbers a row."""
    row = inputs.BY_NAME["past a lane"]
    s = registry.sample(case, row, np.dtype(dtype))
    check_saved(case, s, s.arrays, math.prod(row.batch))
    if case.takes_where:
        mask = np.arange(math.prod(row.shape)).reshape(row.shape) % 5 != 0
        check_saved(case, s, s.arrays | {"where": mask}, math.prod(row.batch))


# what it is made of ------------------------------------------------------------------------------------------------


def inner(equation):
    """The jaxprs inside an equation."""
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


def equations(jaxpr, platform=None):
    """Every equation, also inside calls and loops, with no calls themselves; of one platform's program if given."""
    for equation in jaxpr.eqns:
        parts, chosen = list(inner(equation)), equation.params.get("branches_platforms")
        if platform and chosen:
            parts = [next(part for names, part in zip(chosen, parts, strict=True) if not names or platform in names)]
        if not parts:
            yield equation
        for part in parts:
            yield from equations(part, platform)


def avals(equation):
    return [v.aval for v in (*equation.invars, *equation.outvars) if hasattr(v.aval, "dtype")]


BY_INDEX = re.compile(
    r"gather|scatter.*|dynamic_slice|dynamic_update_slice|argmax|argmin|sort|top_k|approx_top_k|take.*"
)
ADDS = re.compile(
    r"reduce_sum|reduce_prod|reduce|cumsum|cumlogsumexp|dot_general|reduce_window_sum|psum.*|conv_general.*"
)


def indexed(jaxpr):
    return {e.primitive.name for e in equations(jaxpr) if BY_INDEX.fullmatch(e.primitive.name)}


def half_sums(jaxpr):
    half = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
    return [e for e in equations(jaxpr) if ADDS.fullmatch(e.primitive.name) and any(a.dtype in half for a in avals(e))]


def multiplied(jaxpr, tainted):
    """(equations that multiply by something made of the tainted inputs, which outputs are made of them).

    To choose by a condition is not to be made of it: that is what labels are for.
    """
    found, of = [], dict(zip(jaxpr.invars, tainted, strict=True))
    for e in jaxpr.eqns:
        made = [not hasattr(v, "val") and of.get(v, False) for v in e.invars]
        parts = list(inner(e))
        if parts and e.primitive.name != "scan":
            for part in parts:
                more, outs = multiplied(part, made[len(made) - len(part.invars) :])
                found += more
            of.update(zip(e.outvars, outs, strict=True))
            continue
        if e.primitive.name in ("mul", "dot_general", "integer_pow", "pow") and any(made):
            found.append(e)
        # what chooses: the condition of a select, the indices of what is looked up or put
        chooses = {"select_n": made[1:], "gather": made[:1], "scatter": made[:1] + made[2:]}
        result = any(chooses.get(e.primitive.name, made))
        of.update(dict.fromkeys(e.outvars, result))
    return found, [not hasattr(v, "val") and of.get(v, False) for v in jaxpr.outvars]


def by_labels(f, arrays):
    """Equations of `f` that multiply by its argument `labels`."""
    closed = jax.make_jaxpr(f)(arrays)
    paths = jax.tree_util.tree_flatten_with_path(arrays)[0]
    return multiplied(closed.jaxpr, [path[0].key == "labels" for path, _ in paths])[0]


@CASES
@pytest.mark.parametrize(
    ("dtype", "row", "beta"),
    [(np.float32, "mask", "row"), (ml_dtypes.bfloat16, "axis 1 of 3", "row"), (np.float16, "prime", 1.0)],
)
def test_operations(case, dtype, row, beta):
    """L07 for the losses; nothing is ordered or added up in half precision, and only labels look something up."""
    if not case.takes_where and row == "mask":
        row = "prime"
    f, arrays = program(case, dtype, row, beta)
    jaxpr = jax.make_jaxpr(f)(arrays).jaxpr
    assert indexed(jaxpr) == ({"gather", "scatter"} if case.name == INT else set())
    assert half_sums(jaxpr) == []
    iotas = [e.params["dtype"] for e in equations(jaxpr) if e.primitive.name == "iota"]
    assert all(d == np.int32 for d in iotas)
    if case.name == INT:
        assert iotas and by_labels(f, arrays) == []


@CASES
def test_half_precision_operands_are_added_in_float32(case):
    """β and b in half precision, each broadcast, so that its cotangent is a sum."""
    f, arrays = program(case, ml_dtypes.bfloat16)
    narrow = {k: v[:1] if k == "b" else v for k, v in arrays.items()}
    narrow |= {k: jnp.asarray(v, jnp.bfloat16) for k, v in narrow.items() if k in ("b", "beta")}
    assert half_sums(jax.make_jaxpr(f)(narrow).jaxpr) == []


def test_the_weighted_mean_adds_in_float32():
    mean = lambda losses, w: jsoftmax.weighted_mean(losses, w)[0]  # noqa: E731
    losses, column = jnp.ones((3, 4), jnp.bfloat16), jnp.ones((3, 1), jnp.bfloat16)
    assert half_sums(jax.make_jaxpr(jax.value_and_grad(mean, (0, 1)))(losses, column).jaxpr) == []


def test_labels_stay_32_bits_with_x64():
    with jax.enable_x64(True):
        case = next(c for c in registry.CASES if c.name == INT)
        f, arrays = program(case, np.float64)
        arrays["labels"] = arrays["labels"].astype(np.int64)
        jaxpr = jax.make_jaxpr(f)(arrays).jaxpr
        assert {e.params["dtype"] for e in equations(jaxpr) if e.primitive.name == "iota"} == {np.dtype(np.int32)}
        assert by_labels(f, arrays) == []


def test_the_lints_see_what_they_look_for():
    x, y = jnp.ones((2, 3), jnp.bfloat16), np.zeros(2, np.int32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        loss = lambda a: optax.losses.softmax_cross_entropy_with_integer_labels(a["x"], a["labels"]).sum()  # noqa: E731
        peer = jax.make_jaxpr(jax.grad(loss, allow_int=True))({"x": x, "labels": y}).jaxpr
        one_hot = lambda a: (a["x"] * jax.nn.one_hot(a["labels"], 3, dtype=a["x"].dtype)).sum()  # noqa: E731
        assert by_labels(one_hot, {"x": x, "labels": y})
        assert not by_labels(lambda a: jnp.where(a["labels"][:, None] == 1, a["x"], 0), {"x": x, "labels": y})
    assert "gather" in indexed(peer) and half_sums(peer)


# Equations of the programs of value and cotangents, calls not counted: for CPU with β and, where it is not given,
# without; for CUDA the same. A change that makes them fewer lowers these numbers.
BUDGET = {
    "softmax": (233, 428, 58, 97),
    "log_softmax": (307, 398, 99, 143),
    "softmax_jacobian": (486, 479, 482, 475),
    "logsumexp": (291, 290, 65, 64),
    "logsumexp-b": (733, 731, 729, 727),
    "logmeanexp": (460, 474, 79, 93),
    "entropy": (355, 352, 100, 97),
    "softmax_cross_entropy": (449, 442, 167, 206),
    "softmax_cross_entropy_with_integer_labels": (486, 463, 179, 157),
    "softmax_cross_entropy_with_integer_labels-ignore_label": (505, 482, 198, 176),
}


@CASES
def test_equation_budget(case):
    counts = []
    for given in (True, False):
        used = case if given else case._replace(differentiable=tuple(k for k in case.differentiable if k != "beta"))
        f, arrays = program(used, np.float32)
        arrays = arrays if given else {k: a for k, a in arrays.items() if k != "beta"}
        jaxpr = jax.make_jaxpr(f)(arrays).jaxpr
        counts += [sum(1 for _ in equations(jaxpr, platform)) for platform in ("cpu", "cuda")]
    for count, budget in zip(counts, BUDGET[registry.label(case)], strict=True):
        assert 0.9 * budget <= count <= 1.1 * budget, (
            f"{counts} equations; the budget says {BUDGET[registry.label(case)]}"
        )


OPTIONS = {"plain": {}, "ignore_label": {"ignore_label": 3}, "z_loss": {"z_loss": 1e-4}}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the formula is that of CPU")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("shape", "axis"), [((256, 2048), -1), ((2, 21, 128, 128), 1)], ids=["rows", "map"])
def test_memory_and_exponentials_of_integer_labels(shape, axis, options):
    """Beside the gradient a few numbers a row; off a map one exponential for each logit."""
    x, classes = jax.ShapeDtypeStruct(shape, np.float32), shape[axis]
    labels = jax.ShapeDtypeStruct(np.delete(shape, axis), np.int32)
    loss = lambda x, y: getattr(jsoftmax, INT)(x, y, axis, **options).sum()  # noqa: E731
    compiled = jax.jit(jax.value_and_grad(loss)).lower(x, labels).compile()
    numbers_a_row = compiled.memory_analysis().temp_size_in_bytes / 4 / (x.size / classes)
    assert numbers_a_row <= 12, "a gradient's worth of temporaries is as many numbers a row as classes"
    if axis == -1:
        whole = re.compile(rf"f32\[{shape[0]},{shape[1]}\]\S* exponential\(")
        assert len(whole.findall(compiled.as_text())) == 1


# when it compiles --------------------------------------------------------------------------------------------------


@pytest.fixture
def events():
    """Names of functions that JAX traced or compiled, as it goes."""
    seen = {"jaxpr_trace_duration": [], "backend_compile_duration": []}

    def listen(event, duration, **kwargs):
        if event.split("/")[-1] in seen:
            seen[event.split("/")[-1]].append(kwargs.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


NAMES = pytest.mark.parametrize("name", fast(sorted({case.name for case in registry.CASES}), registry.KINDS))
SHAPES = iter([(2, n) for n in range(19, 19 + 64)])  # fresh ones: no other test has compiled for them


@NAMES
def test_every_form_of_beta_traces_the_operator_once(name, events):
    """B09. One program for every way to give β, and one where it is not given and a constant."""
    x = jnp.asarray(inputs.cotangent(next(SHAPES)), jnp.float32)
    rest = {INT: (jnp.asarray([0, 1]),), DIST: (jax.nn.softmax(x),)}.get(name, ())
    f, schedule = getattr(jsoftmax, name), optax.schedules.linear_schedule(1.0, 3.0, 4)

    def traced():
        return sum(e == f"_{_private(name)}" for e in events["jaxpr_trace_duration"])

    default = [f(x, *rest) for _ in range(2)]
    assert traced() == 1
    forms = (1.0, 1, np.float64(1), np.float32(1), np.array(1.0), jnp.float32(1), jnp.asarray(1.0), schedule(0))
    results = [f(x, *rest, beta=beta) for beta in forms]
    assert traced() == 2
    assert np.array_equal(*default) and all(np.array_equal(y, results[0]) for y in results)
    apart = np.abs(default[0] - results[0]).max()  # two programs, whose sums round apart
    assert apart <= tolerance.REORDERED * np.finfo(np.float32).eps * np.abs(results[0]).max()


BETAS = (1.0, 0.5, -2.0, 7)


def _private(name):
    return {DIST: "distribution_loss", INT: "index_loss"}.get(name, name)


@NAMES
def test_no_value_compiles_anew(name, events):
    """P12: of β in value and gradient, of the label that is ignored; alone and inside a step that is given them."""
    x = jnp.asarray(inputs.cotangent(next(SHAPES)), jnp.float32)
    rest = {INT: (jnp.asarray([0, 1]),), DIST: (jax.nn.softmax(x),)}.get(name, ())
    f = getattr(jsoftmax, name)

    def step(x, **kwargs):
        return jax.vjp(lambda x: f(x, *rest, **kwargs), x)[1]

    ignored = ({"ignore_label": -100}, {"ignore_label": 0}, {"ignore_label": 255}, {"ignore_label": 1})
    kwargs = [{"beta": beta} | (extra if name == INT else {}) for beta, extra in zip(BETAS, ignored, strict=True)]
    pulls = [step(x, **kwargs[0])]
    pulls[0](f(x, *rest, **kwargs[0]))
    assert any("jit(" in str(e) for e in events["backend_compile_duration"])
    events["backend_compile_duration"].clear()
    for given in kwargs[1:]:
        step(x, **given)(f(x, *rest, **given))
    assert events["backend_compile_duration"] == []


# one implementation ------------------------------------------------------------------------------------------------

EXPONENTIALS = {
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log1p",
    "logaddexp",
    "logaddexp2",
    "sinh",
    "cosh",
    "tanh",
    "logistic",
}
ALLOWED = {  # (module, function): (names, why it is no second log-sum-exp)
    ("_core/temperature.py", "_of_base"): ({"log"}, "β = ln base"),
    ("_core/accurate.py", None): ({"exp", "expm1", "log", "log1p", "tanh"}, "the exponentials of all modules"),
    ("_ops/signed_logsumexp.py", "_signed_statistics"): (
        {"exp", "log", "log1p"},
        "log|b|, and signs subtracted",
    ),
    ("_ops/signed_logsumexp.py", "_ratios"): ({"exp"}, "exp of a log-ratio, element by element"),
    ("_ops/logmeanexp.py", "_half_rise"): (
        {"expm1", "log", "log1p"},
        "means of exp and expm1: log-sum-exp − log n would cancel",
    ),
    ("_ops/logmeanexp.py", "_mean_slope"): ({"exp", "expm1"}, "ψ of equation (1), element by element"),
    ("_core/candidates.py", "log_uniform"): ({"log1p"}, "Zipf's law, on the host"),
    ("_core/candidates.py", "distorted"): ({"exp", "log"}, "powers of counts, on the host"),
    ("_ops/margin.py", "schedule"): ({"exp", "log1p"}, "a power of the step"),
    ("_ops/samplers.py", "_drawn"): ({"log"}, "of a law, on the host"),
    ("_ops/samplers.py", "of_one"): ({"exp", "expm1", "log"}, "log of 1 − exp(−p τ), class by class"),
}


def exponentials(source):
    """{function: names of exponentials it uses as attributes of a module, or imports}."""
    found = {}

    def visit(node, function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if (
            isinstance(node, ast.Attribute)
            and node.attr in EXPONENTIALS
            and isinstance(node.value, ast.Name | ast.Attribute)
        ):
            found.setdefault(function, set()).add(node.attr)
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names} & EXPONENTIALS
            if names:
                found.setdefault(function, set()).update(names)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), None)
    return found


def test_exponentials_are_taken_in_the_partition_only():
    found = {
        (path.relative_to(PACKAGE).as_posix(), function): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "_partition"
        for function, names in exponentials(path.read_text(encoding="utf-8")).items()
    }
    assert found == {place: names for place, (names, _) in ALLOWED.items()}


def test_exponentials_are_seen():
    assert exponentials("def f(x):\n  return jnp.log(jnp.sum(jnp.exp(x)))") == {"f": {"log", "exp"}}
    assert exponentials("from jax.lax import exp") == {None: {"exp"}}
    assert exponentials("def f(x):\n  return jax.lax.logistic(x)") == {"f": {"logistic"}}
    assert exponentials("def f(x, log_p):\n  return log_p") == {}
