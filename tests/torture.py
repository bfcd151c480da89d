"""The torture list as data: inputs at which softmax codes are known to fail, with the exact value and gradient.

An `Entry` is a point, checked against the oracle in test_oracle.py and against the library elsewhere. `LAWS` are the
statements about whole families of inputs. Numbers are those of exact arithmetic on the inputs rounded to `dtype`.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

INF, NAN = math.inf, math.nan
LN2, LN3 = 0.6931471805599453, 1.0986122886681098
P1, Q1, PQ = 0.2689414213699951, 0.7310585786300049, 0.19661193324148185  # 1/(1+e), its complement, their product
P2 = 0.11920292202211755  # 1/(1+e²)
S = (0.09003057317038046, 0.24472847105479764, 0.6652409557748219)  # softmax of [1, 2, 3]
CE0 = 2.40760596444438  # −log S[0]
D_SOFTMAX0 = (0.08192506906499322, -0.022033044520174298, -0.059892024544818935)  # S[0] (e_0 − S)
E0, E1 = (1.0, 0.0), (0.0, 1.0)
CE, DIST = "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"


NUMBERS = ("beta", "b", "label_smoothing", "z_loss", "class_weights")


class Entry(NamedTuple):
    id: str
    op: str
    args: tuple  # nested lists, or arrays where a shape has no elements; integer labels as ints
    value: Any  # for weighted_mean the pair (mean, count)
    gradient: Any = None  # cotangent of the first argument; None: not stated
    kwargs: dict = {}  # `where` may be a list; so may NUMBERS, which are float32, or float64 in float64  # noqa: RUF012
    dtype: str = "float32"  # of the logits, and of labels that are distributions
    cotangent: Any = None  # of the value (of the mean for weighted_mean); None: ones
    beta_gradient: Any = None
    labels_gradient: Any = None
    direction: Any = None  # in the first argument, for `hvp`
    hvp: Any = None  # derivative of `gradient` along `direction`
    label_dtype: str = "int32"
    note: str = ""


def _f32(value):
    return float(np.float32(value))


def _one_hot_minus(p, label):
    return [v - (i == label) for i, v in enumerate(p)]


# ------------------------------------------------------------------------------------------------------------ A. plain

PLAIN = [
    Entry("T01", "softmax", ([1, 2, 3],), S, D_SOFTMAX0, cotangent=(1, 0, 0), note="S[0] (e_0 − S)"),
    Entry("T01", "softmax", ([1, 2, 3],), S, [0, 0, 0], note="probabilities sum to 1"),
    Entry(
        "T01",
        "logsumexp",
        ([1, 2, 3],),
        3.40760596444438,
        S,
        direction=(1, 0, 0),
        hvp=D_SOFTMAX0,
        note="diag S − SSᵀ",
    ),
    Entry("T01", CE, ([1, 2, 3], 0), CE0, [S[0] - 1, *S[1:]], direction=(1, 0, 0), hvp=D_SOFTMAX0, note="diag S − SSᵀ"),
    Entry("T01", "logmeanexp", ([1, 2, 3],), 2.3089936757762706, S, note="logsumexp − log 3"),
    Entry("T11", "softmax", ([7],), [1], [0], note="a simplex of one point"),
    Entry("T11", "log_softmax", ([7],), [0], [0], note="log 1"),
    Entry("T11", "logsumexp", ([7],), 7, [1], note="log exp 7"),
    Entry("T11", CE, ([7], 0), 0, [0], note="−log 1"),
    Entry("T12", "softmax", (np.zeros(0),), np.zeros(0), np.zeros(0), note="no class"),
    Entry("T12", "logsumexp", (np.zeros((2, 0)),), [-INF, -INF], np.zeros((2, 0)), note="log of an empty sum"),
    Entry("T12", CE, (np.zeros((2, 0)), [0, 0]), [NAN, NAN], np.zeros((2, 0)), note="without classes no label is one"),
    Entry("T12", CE, (np.zeros((0, 3)), np.zeros(0)), np.zeros(0), np.zeros((0, 3)), note="empty batch"),
    Entry("T12", "softmax", (np.zeros((0, 3)),), np.zeros((0, 3)), np.zeros((0, 3)), note="empty batch"),
    Entry("T12", "weighted_mean", (np.zeros(0),), (0, 0), np.zeros(0), note="the mean of nothing is 0"),
    *(
        Entry("T18", "softmax", ([1.5] * n,), [1 / n] * n, note="equal logits: 1/n, rounded once")
        for n in (2, 3, 7, 10, 1000)
    ),
    Entry(
        "T19", "softmax", ([[1, 2], [3, 4]],), [[1, 1], [1, 1]], [[0, 0], [0, 0]], {"axis": ()}, note="each its own row"
    ),
    Entry("T19", "logsumexp", ([[1, 2], [3, 4]],), [[1, 2], [3, 4]], [[1, 1], [1, 1]], {"axis": ()}, note="lse = x"),
    Entry(
        "T19",
        CE,
        ([[1, 9], [2, 9], [3, 9]], 1),
        1.4076059644443804,
        [[S[0], 0], [S[1] - 1, 0], [S[2], 0]],
        {"axis": (1, 0), "where": [[True, False]]},
        note="class 1 lies at [1, 0]: the order of the axes numbers the classes",
    ),
]

# ---------------------------------------------------------------------------------------------------------- B. support


def _empty(id, x, where=None):
    """No live class: p = 0, log 0 = −inf, and every gradient 0 except at a label whose logit is −inf."""
    n, kwargs, note = len(x), {} if where is None else {"where": where}, "an empty support"
    return [
        Entry(id, "softmax", (x,), [0] * n, [0] * n, kwargs, note=note),
        Entry(id, "log_softmax", (x,), [-INF] * n, [0] * n, kwargs, note=note),
        Entry(id, "logsumexp", (x,), -INF, [0] * n, kwargs, note=note),
        Entry(id, "logmeanexp", (x,), -INF, [0] * n, kwargs, note=note),
        Entry(id, "logsumexp", (x,), INF, [0] * n, kwargs | {"beta": -1.0}, note="log 0 over a negative β"),
        Entry(id, CE, (x, 0), INF, [-1.0 if where is None else 0.0, *[0] * (n - 1)], kwargs, note="−e_y, 0 if masked"),
    ]


def _masked(v):
    x, kwargs, note = [1, v, 2], {"where": [True, False, True]}, f"content {v} behind the mask"
    return [
        Entry("T07", "softmax", (x,), [P1, 0, Q1], [PQ, 0, -PQ], kwargs, cotangent=(1, 0, 0), note=note),
        Entry(
            "T07",
            "log_softmax",
            (x,),
            [-1.3132616875182228, -INF, -0.3132616875182228],
            [Q1, 0, -Q1],
            kwargs,
            cotangent=(1, 0, 0),
            note=note,
        ),
        Entry("T07", "logsumexp", (x,), 2.313261687518223, [P1, 0, Q1], kwargs, note=note),
        Entry("T07", CE, (x, 0), 1.3132616875182228, [-Q1, 0, Q1], kwargs, note=note),
    ]


SUPPORT = [
    *_empty("T02", [-INF] * 3),
    *_empty("T02", [-INF]),
    *_empty("T03", [1, 2, 3], [False] * 3),
    *_empty("T20", [1, -INF, 2], [False, True, False])[:5],
    Entry("T20", CE, ([1, -INF, 2], 0), INF, [0, 0, 0], {"where": [False, True, False]}, note="the label is masked"),
    Entry("T20", CE, ([1, -INF, 2], 1), INF, [0, -1, 0], {"where": [False, True, False]}, note="the label is at −inf"),
    Entry("T04", "softmax", ([1, -INF, 2],), [P1, 0, Q1], [PQ, 0, -PQ], cotangent=(1, 0, 0), note="exp(−inf) = 0"),
    Entry("T04", CE, ([1, -INF, 2], 0), 1.3132616875182228, [-Q1, 0, Q1], note="exp(−inf) = 0"),
    Entry("T05", CE, ([1, -INF, 2], 1), INF, [P1, -1, Q1], note="limit of p − e_y as x_y → −∞"),
    Entry(
        "T06", CE, ([1, 5, 2], 1), INF, [P1, 0, Q1], {"where": [True, False, True]}, note="a masked logit is constant"
    ),
    Entry("T05", CE, ([1, -INF, 2], 1), INF, [2 * P2, -2, 2 - 2 * P2], {"beta": 2.0}, note="β (p − e_y)"),
    Entry("T06", CE, ([1, -INF, 2], 1), INF, [P1, 0, Q1], {"where": [True, False, True]}, note="masked outweighs −inf"),
    *itertools.chain.from_iterable(_masked(v) for v in (NAN, INF, -INF, 1e38, 3.4e38, 1e-40)),
    Entry("T22", "softmax", ([NAN, 5],), [NAN, 0], [NAN, 0], {"where": [True, False]}, note="NaN, not an empty row"),
    Entry("T22", "softmax", ([NAN, -INF],), [NAN, NAN], [NAN, NAN], note="NaN, not an empty row"),
    Entry("T22", "log_softmax", ([NAN, -INF],), [NAN, NAN], [NAN, NAN], note="NaN, not an empty row"),
    Entry("T22", "logsumexp", ([NAN, -INF],), NAN, [NAN, NAN], note="NaN, not an empty row"),
    Entry("T22", CE, ([NAN, -INF], 0), NAN, [NAN, NAN], note="NaN, not an empty row"),
]

# ------------------------------------------------------------------------------------------ C. infinities, NaN, range

NAN3 = [NAN] * 3
P3 = 6.3320827745470475e-15  # 1 / (1 + 2 e³²), the third class of T15
RANGE = [
    Entry("T08", "softmax", ([1, INF, 2],), NAN3, NAN3, note="+inf is an overflow; two have no limit"),
    Entry("T08", "log_softmax", ([1, INF, 2],), NAN3, NAN3, note="as softmax"),
    Entry("T08", "logsumexp", ([1, INF, 2],), INF, NAN3, note="the value has a limit, the gradient has not"),
    Entry("T08", "logsumexp", ([INF, INF],), INF, [NAN, NAN], {"beta": -1.0}, note="the smallest logit is +inf"),
    Entry("T08", "logsumexp", ([1, INF],), NAN, [NAN, NAN], {"beta": -1.0}, note="poisoned"),
    Entry("T08", CE, ([1, INF, 2], 1), NAN, NAN3, note="as softmax"),
    Entry("T09", "softmax", ([1, NAN, 2],), NAN3, NAN3, note="NaN poisons its row"),
    Entry("T09", "log_softmax", ([1, NAN, 2],), NAN3, NAN3, note="NaN poisons its row"),
    Entry("T09", "logsumexp", ([1, NAN, 2],), NAN, NAN3, note="NaN poisons its row"),
    Entry("T09", CE, ([1, NAN, 2], 0), NAN, NAN3, note="NaN poisons its row"),
    Entry(
        "T09", CE, ([[1, NAN, 2], [1, 2, 3]], [0, 0]), [NAN, CE0], [[0] * 3] * 2, cotangent=[0, 0], note="unread row"
    ),
    Entry("T10", CE, ([1e38, -1e38, 3e38], 2), 0, [0, 0, 0], note="differences overflow on the safe side"),
    Entry("T10", CE, ([1e38, -1e38, 0], 1), 2 * _f32(1e38), [1, -1, 0], note="the loss is representable"),
    Entry(
        "T10",
        CE,
        ([3e38, -3e38, 0], 1),
        INF,
        [1, -1, 0],
        direction=(1, 2, 3),
        hvp=[0, 0, 0],
        note="6e38 is beyond the largest float32; p is a one-hot",
    ),
    *(Entry("T14", CE, ([a, a], 0), LN2, [-0.5, 0.5], note="a tie") for a in (1e4, 1e8, 3e38)),
    *(Entry("T14", "logsumexp", ([a, a],), _f32(a) + LN2, [0.5, 0.5], note="a tie") for a in (1e4, 1e8, 3e38)),
    Entry("T15", CE, ([60000, 60000], 0), LN2, [-0.5, 0.5], dtype="float16", note="exp overflows; float32 out"),
    Entry(
        "T15",
        CE,
        ([6e4, 6e4, 59968], 0),
        LN2 + P3,
        [-0.5 - P3 / 2, 0.5 - P3 / 2, P3],
        dtype="float16",
        note="lse rounds to x_y: lse − x_y would be 0",
    ),
]

# ------------------------------------------------------------------------------------------------------- D. saturation


def _saturated(c, loss, p, dtype="float32"):
    """Row [0, −c]: the loss of the peak is log1p(e^{−c}), its gradient ∓ e^{−c} / (1 + e^{−c})."""
    x, note = [0, -c], "below the rounding of 1, not of 0"
    return [
        Entry("T13", CE, (x, 0), loss, [-p, p], dtype=dtype, note=note),
        Entry("T13", "logsumexp", (x,), loss, [1 - p, p], dtype=dtype, note=note),
        Entry("T13", "log_softmax", (x,), [-loss, -c - loss], [p, -p], dtype=dtype, cotangent=E0, note=note),
    ]


E700 = 9.85967654375977e-305  # e⁻⁷⁰⁰
K = 4.248354255291589e-18  # e⁻⁴⁰ / (1 + e⁻⁴⁰)²
SATURATION = [
    *_saturated(5, 6.715348489118068e-3, 6.6928509242848554e-3),
    *_saturated(20, 2.061153620314381e-9, 2.0611536181902037e-9),
    *_saturated(40, 4.248354255291589e-18, 4.248354255291589e-18),
    *_saturated(80, 1.8048513878454153e-35, 1.8048513878454153e-35),
    *_saturated(700, E700, E700, "float64"),
    *(
        Entry("T24", "softmax", ([40, 0],), [1, K], d, dtype=t, cotangent=g, note="needs g − g[peak]: K (g_0 − g_1)")
        for t in ("float32", "float64")
        for g, d in ((E0, [K, -K]), (E1, [-K, K]), ((1.0, 0.3), [0.7 * K, -0.7 * K]))
        if t == "float64" or g != (1.0, 0.3)  # 0.3 is no float32
    ),
    Entry(
        "T24",
        "log_softmax",
        ([37.42994775023705, 0],),
        [-5.551115123125776e-17, -37.42994775023705],
        [5.551115123125776e-17, -5.551115123125776e-17],
        dtype="float64",
        cotangent=E0,
        note="half the rounding of 1",
    ),
    Entry("T25", CE, ([0, -104], 1), 104, [1, -1], note="e^−104 underflows float32"),
]

# --------------------------------------------------------------------------------------------------- E. dtype and size

N = 70_000
LOG_N = 11.156250521031496
DTYPES = [
    *itertools.chain.from_iterable(
        (
            Entry("T16", "logsumexp", ([0] * N,), LOG_N, [1 / N] * N, dtype=t, note="the sum overflows float16"),
            Entry("T16", CE, ([0] * N, 3), LOG_N, _one_hot_minus([1 / N] * N, 3), dtype=t, note="float32 out"),
            Entry("T16", "softmax", ([0] * N,), [1 / N] * N, [0] * N, dtype=t, note="subnormal in float16"),
            Entry("T16", "log_softmax", ([0] * N,), [-LOG_N] * N, [0] * N, dtype=t, note="Σ_j (1 − n p_j) = 0"),
        )
        for t in ("float16", "bfloat16")
    ),
    Entry(
        "T28",
        "log_softmax",
        ([-100, 100],),
        [-200, -1.3838965267367376e-87],
        dtype="int8",
        note="200 does not fit int8",
    ),
    Entry(
        "T28", "log_softmax", ([0, 200],), [-200, -1.3838965267367376e-87], dtype="uint8", note="0 − 200 wraps in uint8"
    ),
    Entry("T28", "log_softmax", ([-(2**31), 2**31 - 1],), [1 - 2.0**32, 0], dtype="int32", note="the difference wraps"),
    Entry("T28", "softmax", ([-100, 100],), [1.3838965267367376e-87, 1], dtype="int8", note="e^−200 is below float32"),
    Entry("T28", "logsumexp", ([0, 200],), 200, dtype="uint8", note="dtype of the result: the default float"),
]

# ----------------------------------------------------------------------------------------------------------------- F. β


def _limit(id, x, beta, p, lse, note):
    """β = ±inf: softmax is constant between ties, lse is the extreme logit."""
    n, kwargs = len(x), {"beta": beta}
    return [
        Entry(id, "softmax", (x,), p, [0] * n, kwargs, cotangent=range(1, n + 1), beta_gradient=0.0, note=note),
        Entry(id, "logsumexp", (x,), lse, p, kwargs, beta_gradient=0.0, note=note),
        Entry(id, "logmeanexp", (x,), lse, p, kwargs, beta_gradient=0.0, note=note),
    ]


THIRD = [1 / 3] * 3
TWELVE = 2 * _f32(2e-38) * _f32(3e38)
LSE_SLOPE = -0.8323955818399389  # −H(S)
CE_SLOPE = 1.5752103826044415  # E_S[x] − 1
B08_MASK = {"where": [True, True, False, True]}
BETA = [
    Entry(
        "B01", "softmax", ([1, -INF, 2],), [0.5, 0, 0.5], [0] * 3, {"beta": 0.0}, cotangent=(1, 2, 3), beta_gradient=0.5
    ),
    Entry("B01", "softmax", ([1, 2, 3],), THIRD, [0] * 3, {"beta": 0.0}, cotangent=(1, 0, 0), beta_gradient=-1 / 3),
    Entry("B01", "softmax", ([3e38, -3e38, 0],), THIRD, [0] * 3, {"beta": 0.0}, cotangent=(1, 1, 2), note="uniform"),
    Entry(
        "B01", "log_softmax", ([1, 2, 3],), [-LN3] * 3, [0] * 3, {"beta": 0.0}, cotangent=(1, 0, 0), beta_gradient=-1.0
    ),
    Entry("B01", CE, ([1, 2, 3], 0), LN3, [0] * 3, {"beta": 0.0}, beta_gradient=1.0, note="log #live; E[x] − x_y"),
    Entry("B01", CE, ([1, -INF, 2], 2), LN2, [0] * 3, {"beta": 0.0}, beta_gradient=-0.5, note="log #live"),
    Entry("B01", "logsumexp", ([1, 2, 3],), INF, THIRD, {"beta": 0.0}, note="β⁻¹ log 3 from above"),
    Entry("B01", "logsumexp", ([-INF, 2],), 2, [0, 1], {"beta": 0.0}, beta_gradient=0.0, note="β⁻¹ log e^{βx} = x"),
    Entry("B01", "logsumexp", ([-INF, -INF],), -INF, [0, 0], {"beta": 0.0}, beta_gradient=0.0, note="empty"),
    Entry(
        "B01", "logmeanexp", ([1, 2, 3],), 2, THIRD, {"beta": 0.0}, beta_gradient=1 / 3, note="mean; half the variance"
    ),
    *_limit("B02", [1, 3, 2], INF, [0, 1, 0], 3, "argmax"),
    *_limit("B02", [3, 1, 3], INF, [0.5, 0, 0.5], 3, "ties share"),
    *_limit("B02", [0, -1, 0], INF, [0.5, 0, 0.5], 0, "0 · inf"),
    *(
        Entry(
            "B02", op, ([-INF] * 3,), -math.copysign(INF, beta), [0] * 3, {"beta": beta}, beta_gradient=0.0, note=note
        )
        for op in ("logsumexp", "logmeanexp")
        for beta, note in ((INF, "the maximum of nothing"), (-INF, "the minimum of nothing"))
    ),
    Entry("B02", CE, ([3, 1, 3], 0), LN2, [0] * 3, {"beta": INF}, beta_gradient=0.0, note="one of two peaks"),
    Entry("B02", CE, ([3, 1, 3], 1), INF, [0] * 3, {"beta": INF}, beta_gradient=0.0, note="not a peak"),
    *_limit("B03", [1, 3, 2], -INF, [1, 0, 0], 1, "argmin"),
    *_limit("B03", [3, 1, 1], -INF, [0, 0.5, 0.5], 1, "ties share"),
    Entry("B04", "softmax", ([1, 2, 3],), S[::-1], None, {"beta": -1.0}, note="softmin"),
    Entry("B04", "logsumexp", ([1, 2, 3],), 0.5923940355556196, S[::-1], {"beta": -1.0}, note="soft minimum"),
    Entry(
        "B04", CE, ([0, 700], 0), E700, [E700, -E700], {"beta": -1.0}, "float64", note="the peak is the smallest logit"
    ),
    Entry("B05", "softmax", ([1, -INF, 2],), NAN3, NAN3, {"beta": NAN}, beta_gradient=NAN, note="not masked"),
    Entry("B05", "log_softmax", ([1, -INF],), [NAN, NAN], [NAN, NAN], {"beta": NAN}, beta_gradient=NAN, note="the row"),
    Entry("B05", "logsumexp", ([1, 2, 3],), NAN, NAN3, {"beta": NAN}, beta_gradient=NAN, note="NaN where live"),
    Entry("B05", CE, ([1, 2, 3], 0), NAN, NAN3, {"beta": NAN}, beta_gradient=NAN, note="NaN where live"),
    Entry(
        "B06",
        "softmax",
        ([1e38, 3e38, 3e38],),
        [0, 0.5, 0.5],
        [0, -_f32(1e30) / 4, _f32(1e30) / 4],
        {"beta": 1e30},
        cotangent=(1, 2, 3),
        beta_gradient=0.0,
        note="β x overflows; the gradient β p (g − E[g]) does not",
    ),
    Entry(
        "B06",
        "softmax",
        ([3e38, -3e38],),
        [1 / (1 + math.exp(-TWELVE)), 1 / (1 + math.exp(TWELVE))],
        None,
        {"beta": 2e-38},
        note="x − peak overflows, β (x − peak) = −12 does not",
    ),
    Entry("B08", CE, ([1, 2, 3], 0), CE0, None, {"beta": 1.0}, beta_gradient=CE_SLOPE, note="E[x] − x_y"),
    Entry("B08", CE, ([1, 2, -INF, 3], 0), CE0, None, {"beta": 1.0}, beta_gradient=CE_SLOPE, note="as without it"),
    Entry(
        "B08", CE, ([1, 2, 9, 3], 0), CE0, None, {"beta": 1.0, **B08_MASK}, beta_gradient=CE_SLOPE, note="as without it"
    ),
    Entry("B08", "logsumexp", ([1, 2, 3],), CE0 + 1, S, {"beta": 1.0}, beta_gradient=LSE_SLOPE, note="−H / β²"),
    Entry(
        "B08", "logsumexp", ([1, 2, -INF, 3],), CE0 + 1, None, {"beta": 1.0}, beta_gradient=LSE_SLOPE, note="without it"
    ),
    Entry(
        "B08",
        "logsumexp",
        ([1, 2, NAN, 3],),
        CE0 + 1,
        None,
        {"beta": 1.0, **B08_MASK},
        beta_gradient=LSE_SLOPE,
        note="ditto",
    ),
    Entry(
        "B08",
        CE,
        ([[1, 2, 3]] * 3, [0, 0, 0]),
        [CE0, LN3, INF],
        [[S[0] - 1, *S[1:]], [0] * 3, [0] * 3],
        {"beta": [1.0, 0.0, INF]},
        beta_gradient=[CE_SLOPE, 1.0, 0.0],
        note="a β for each row",
    ),
]

# ------------------------------------------------------------------------------------------------------------ G. labels

X4 = [1, 2, 3, 4]
P4 = [0.03205860328008499, 0.08714431874203257, 0.23688281808991013, 0.6439142598879722]  # softmax of X4
CE3 = 0.44018969856119533  # −log P4[3]
NAN4 = [NAN] * 4
V = 300
LABELS = [
    *(
        Entry(
            "L01",
            CE,
            (X4, y),
            NAN,
            NAN4,
            {"ignore_label": None},
            beta_gradient=NAN,
            note="no class: poisoned, not wrapped",
        )
        for y in (4, 100, -1, -4, -5, -100, 2**31 - 1, -(2**31))
    ),
    *(
        Entry(
            "L02",
            CE,
            (x, y),
            0,
            [0] * 4,
            {"ignore_label": y},
            beta_gradient=0.0,
            note="ignored, whatever the row holds",
        )
        for y in (-100, 1)
        for x in (X4, [1, NAN, 3, 4], [1, INF, 3, 4], [-INF] * 4)
    ),
    Entry(
        "L02",
        CE,
        (X4, 1),
        0,
        [0] * 4,
        {"ignore_label": 1, "where": [True, False, True, True]},
        beta_gradient=0.0,
        note="ignored, though the label is masked",
    ),
    Entry("L03", CE, ([0] * V, 1), 5.703782474656201, _one_hot_minus([1 / V] * V, 1), label_dtype="int8", note="log V"),
    Entry(
        "L03",
        CE,
        ([0] * V, 200),
        5.703782474656201,
        _one_hot_minus([1 / V] * V, 200),
        label_dtype="uint8",
        note="log V",
    ),
    Entry("L03", CE, (X4, 2**32 - 1), NAN, NAN4, label_dtype="uint32", note="−1 in int32"),
    Entry(
        "L04",
        CE,
        ([X4, X4], [2, 3]),
        [0, CE3],
        [[0] * 4, [*P4[:3], P4[3] - 1]],
        {"ignore_label": 2},
        note="a class may be ignored: only its rows",
    ),
    Entry("L06", DIST, (X4, [0, 0, 0, 1]), CE3, [*P4[:3], P4[3] - 1], note="one-hot is an index"),
    Entry(
        "L06",
        DIST,
        ([1, -INF, 2], [1, 0, 0]),
        1.3132616875182228,
        [-Q1, 0, Q1],
        labels_gradient=[1.3132616875182228, 0, 0.3132616875182228],
        note="0 · inf = 0 in value and gradients",
    ),
    Entry("L06", DIST, ([1, -INF, 2], [0.5, 0.5, 0]), INF, [P1 - 0.5, -0.5, Q1], note="mass on an absent class"),
    Entry(
        "L06",
        DIST,
        ([1, 2, 3], [2, 0, 1]),
        5.222817893333141,
        [3 * S[0] - 2, 3 * S[1], 3 * S[2] - 1],
        labels_gradient=[CE0, 1.4076059644443804, 0.40760596444438030],
        note="not normalised: Σ_j y_j (lse − x_j), (Σ y) p − y",
    ),
]

# ------------------------------------------------------------------------------------ H. options, and the weighted mean

SMOOTHED = 0.75 * CE0 + 0.25 / 3 * (3 * CE0 - 3)  # ε = ¼ over three live classes, −log p = CE0, CE0 − 1, CE0 − 2
OPTIONS = [
    Entry(
        "W01",
        CE,
        ([1, 2, 3, 4], 3),
        0.59018969856119533,
        [0.0070586032800849885, 0.062144318742032567, 0.21188281808991013, -0.28108574011202769],
        {"label_smoothing": 0.1},
        dtype="float64",
        note="ε/V on every class",
    ),
    Entry(
        "W02",
        CE,
        ([1, 2, 3, 4], 3),
        0.45990498312040429,
        [0.032343295840153975, 0.08791819335476558, 0.23898642738720806, -0.35036753718500523],
        {"z_loss": 1e-3},
        dtype="float64",
        note="λ (log Z)²",
    ),
    Entry("W02", DIST, ([-INF, -INF], [0, 0]), 0, [0, 0], {"z_loss": 1.0}, note="an empty row adds nothing"),
    Entry("W02", CE, ([INF, 1], 1), NAN, [NAN, NAN], {"z_loss": 0.0}, note="poisoned whatever λ is"),
    Entry("W02", CE, ([1e38, -1e38], 0), 0, [0, 0], {"z_loss": 0.0}, note="0 · (log Z)², whose square overflows"),
    *(
        Entry(
            "L08",
            CE,
            ([1, 2, v, 3], 0),
            SMOOTHED,
            [S[0] - 0.75 - 0.25 / 3, S[1] - 0.25 / 3, 0, S[2] - 0.25 / 3],
            {"label_smoothing": 0.25} | kwargs,
            note="smoothing is shared by the live classes",
        )
        for v, kwargs in ((7, {"where": [True, True, False, True]}), (-INF, {}))
    ),
    Entry("L08", CE, ([1, 2, -INF], 2), INF, None, {"label_smoothing": 0.25}, note="the label itself is absent"),
    Entry(
        "W04",
        CE,
        ([1, 2, 3], 0),
        2 * CE0,
        [2 * (S[0] - 1), 2 * S[1], 2 * S[2]],
        {"class_weights": [2.0, 0.0, 5.0]},
        note="the weight of the label's class",
    ),
    Entry("W04", CE, ([-INF, 2], 0), 0, [0, 0], {"class_weights": [0.0, 1.0]}, note="0 · ∞ = 0"),
    Entry(
        "W04", DIST, ([-INF, 2], [1, 0]), 0, [0, 0], {"class_weights": [0.0, 1.0]}, labels_gradient=[0, 0], note="0 · ∞"
    ),
]

MEANS = [
    Entry("W03", "weighted_mean", ([INF, 2], [0, 1]), (2, 1), [0, 1], note="weight 0 drops an infinite loss"),
    Entry("W03", "weighted_mean", ([NAN, 2, 4], [0, 1, 3]), (3.5, 4), [0, 0.25, 0.75], note="weight 0 drops NaN"),
    Entry("W03", "weighted_mean", ([1, 4], [-1, 3]), (5.5, 2), [-0.5, 1.5], note="negative weights count as they are"),
    Entry("R01", "weighted_mean", ([1, 2, 6],), (3, 3), THIRD, note="Σ w l / Σ w with w = 1"),
    Entry(
        "R01",
        "weighted_mean",
        ([[1, 2], [3, 10]], [[2, 0], [1, 1]]),
        (3.75, 4),
        [[0.5, 0], [0.25, 0.25]],
        note="Σ w l / Σ w",
    ),
    Entry("R02", "weighted_mean", ([5, INF], [0, 0]), (0, 0), [0, 0], note="nothing valid: 0, not NaN"),
    Entry(
        "R05",
        CE,
        ([[1, 2, 3]] * 2, [0, 2]),
        [CE0, 0.40760596444438030],
        [[2 * (S[0] - 1), 2 * S[1], 2 * S[2]], [-3 * S[0], -3 * S[1], -3 * (S[2] - 1)]],
        cotangent=[2, -3],
        note="row i of the gradient × g_i",
    ),
]

# ------------------------------------------------------------- X. points the list above does not reach: b, Jacobian, …

E3 = [1, 0, 0]
LARGEST = float(np.finfo(np.float32).max) * 2.0**-32  # where an infinite slope saturates
JACOBIAN = [[S[i] * ((i == j) - S[j]) for j in range(3)] for i in range(3)]
D = 0.5819767068693265  # 1 / (e − 1)
EXTRA = [
    Entry("X01", "logsumexp", ([1, 2],), 1.5413248546129181, [-D, 1 + D], {"b": [-1.0, 1.0]}, note="log(e² − e)"),
    Entry("X01", "logsumexp", ([1, 2],), NAN, [NAN, NAN], {"b": [1.0, -1.0]}, note="log of a negative number"),
    Entry("X02", "logsumexp", ([1, 1],), -INF, [0, 0], {"b": [1.0, -1.0]}, note="log 0"),
    Entry("X02", "logsumexp", ([1, 1],), INF, [0, 0], {"b": [1.0, -1.0], "beta": -1.0}, note="log 0 over a negative β"),
    *(
        Entry(
            "X03",
            "logsumexp",
            ([1, v, 2],),
            2.313261687518223,
            [P1, 0, Q1],
            {"b": [1.0, 0.0, 1.0]},
            note="b = 0: absent",
        )
        for v in (NAN, INF, -INF, 5.0)
    ),
    Entry(
        "X03",
        "logsumexp",
        ([INF, INF, 1],),
        INF,
        [NAN, 0, NAN],
        {"b": [1.0, -1.0, 1.0], "where": [True, False, True]},
        note="the sign at +inf is that of the live ones",
    ),
    Entry("X04", "logmeanexp", ([1, -INF, 2],), 1.6201145069582776, [P1, 0, Q1], note="the mean over the live classes"),
    Entry(
        "X04", "logsumexp", ([1, 2],), 1.5, [0.5, 0.5], {"b": [0.5, 0.5], "beta": 0.0}, beta_gradient=0.125, note="mean"
    ),
    Entry(
        "X04",
        "logsumexp",
        ([1, 2],),
        -INF,
        [0.5, 0.5],
        {"b": [0.25] * 2, "beta": 0.0},
        beta_gradient=LARGEST,
        note="Σb<1",
    ),
    Entry(
        "X04", "logsumexp", ([1, 2],), NAN, [NAN, NAN], {"b": [-1.0, 0.5], "beta": 0.0}, note="log of a negative number"
    ),
    Entry("X05", "logsumexp", ([1, 2, 3],), INF, THIRD, {"beta": 0.0}, beta_gradient=-LARGEST, note="−H/β², saturated"),
    Entry(
        "X05",
        "logsumexp",
        ([1, 1],),
        LN2 / _f32(1e-30),
        [0.5, 0.5],
        {"beta": 1e-30},
        beta_gradient=-LARGEST,
        note="the same",
    ),
    Entry("X06", "softmax_jacobian", ([1, 2, 3],), JACOBIAN, [0, 0, 0], note="diag S − SSᵀ; its rows sum to 0"),
    Entry("X06", "softmax_jacobian", ([1, -INF],), [[0, 0], [0, 0]], [0, 0], note="one live class"),
    Entry("X06", "softmax_jacobian", ([NAN, 1, -INF],), [NAN3] * 3, NAN3, note="poisoned"),
    *(
        Entry(
            "X06",
            "softmax_jacobian",
            ([1, 1, 0],),
            [[0] * 3] * 3,
            [0] * 3,
            {"beta": beta},
            cotangent=[E3, [0] * 3, [0] * 3],
            beta_gradient=slope,
            note="derivative of softmax",
        )
        for beta, slope in ((0.0, 2 / 9), (INF, 0.0), (-INF, 0.0))
    ),
]

ENTRIES = [*PLAIN, *SUPPORT, *RANGE, *SATURATION, *DTYPES, *BETA, *LABELS, *OPTIONS, *MEANS, *EXTRA]

# Statements about families of inputs; each is the subject of a test of its own.
LAWS = {
    "T12": "value and gradient of an empty array keep its shape and dtype",
    "T17": "for x on a grid of 2⁻⁶, softmax(x + 1024) has the bits of softmax(x)",
    "T18": "permuting the classes permutes the result, within 1 ulp",
    "T19": "any form of axis (-1, 0, None, (), (0, 1), (-1, 0), list, np.int64) equals moving the class axes last and "
    "flattening them, within 1 ulp; repeated and out-of-range axes raise",
    "T21": "f(where(m, x, -inf)) has the bits of f(x, where=m): softmax, log_softmax, logsumexp",
    "T23": "a poisoned row changes no bit of value or gradient in the other rows of its batch",
    "T25": "softmax([0, -88])[1] is 6.05e-39 or 0 (float32 subnormal), never NaN",
    "T26": "each row of a cross-entropy's gradient sums to 0: within 4u in float32, within 2⁻⁸ in bfloat16",
    "T27": "in float16 and bfloat16, value and gradient are those in float32 of the same numbers, rounded once",
    "T28": "integers give what the default float of the same numbers gives; bool, complex and lists raise TypeError",
    "T29": "the result's dtype is the logits', whatever the type of beta and where, with x64 on and off",
    "T30": "with x64, float64 in gives float64 accuracy, and no result is cached across the switch",
    "T31": "a NaN or infinite tangent at a masked entry changes no output tangent",
    "B07": "under jit, for any finite beta and x, results are finite and those of eager mode within 4 ulp",
    "B08": "a beta for each row, under vmap too, equals a scalar beta row by row",
    "B09": "beta as Python float, NumPy scalar, 0-d array or tracer gives the same value and compiles once",
    "L05": "float and bool labels raise TypeError; labels not in the batch shape raise ValueError",
    "L06": "an integer label equals its one-hot distribution, within 1 ulp",
    "L07": "a compiled integer-label loss multiplies by no label and gathers or scatters by none",
    "R03": "numerator and count summed over microbatches give the mean of the whole, within an ulp a chunk",
    "R04": "chunk means weighted by their counts give the mean of the whole",
    "R05": "a cotangent vector g scales row i of an unreduced loss's gradient by g_i",
}
