"""docs/explore.html in a headless browser: its functions against the oracle and the library, its controls as used.

The browser starts once. It gets a copy of the page with two scripts more: one in front, that writes down errors, and
one at the end, that calls the functions and moves the controls.
"""

import html
import json
import pathlib
import re
import shutil
import subprocess
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from tests import bounds, inputs, oracle, registry, tolerance

COMPILE_LIGHTLY = "fast lane"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "explore.html"
SOURCE = PAGE.read_text(encoding="utf-8")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, PROGRAMS)), None)
in_browser = pytest.mark.skipif(not BROWSER, reason=f"no headless browser: none of {', '.join(PROGRAMS)} is installed")

INF, NAN = np.inf, np.nan
BETAS = (-INF, -40.0, -1.3, -1e-3, 0.0, 1e-3, 0.7, 1.0, 8.0, 700.0, INF, NAN)
_GARBAGE = [[1.0, NAN, 2.0, INF], [NAN, 0.5, -INF, 3.0]]
ROWS = (
    inputs.Row("random", lambda rng: 3 * rng.standard_normal((3, 5))),
    inputs.Row("eight", lambda rng: rng.standard_normal((2, 8))),  # as many as the page shows
    inputs.Row("ties", lambda rng: rng.integers(-1, 2, (3, 6)).astype(np.float64)),
    inputs.Row("near tie", lambda rng: np.array([[1.0, 1.0 + 2.0**-30, 0.0], [0.5, 0.5 - 1e-3, 0.5]])),
    inputs.Row("one class", lambda rng: rng.standard_normal((3, 1))),
    inputs.Row("one live", lambda rng: np.array([[-INF, 0.3, -INF], [2.5, -INF, -INF]])),
    inputs.Row("holes", lambda rng: np.array([[0.4, -INF, 1.7, -0.2], [-INF, -3.0, -INF, 2.0]])),
    inputs.Row("masked", lambda rng: rng.standard_normal((2, 4)), -1, np.array([True, False, True, True])),
    inputs.Row("garbage masked", lambda rng: np.array(_GARBAGE), -1, np.isfinite(_GARBAGE)),
    inputs.Row("nothing unmasked", lambda rng: rng.standard_normal((1, 3)), -1, np.array(False)),
    inputs.Row("empty", lambda rng: np.full((1, 3), -INF)),
    inputs.Row("inf", lambda rng: np.array([[0.0, INF, 1.0]])),
    inputs.Row("all inf", lambda rng: np.array([[INF, INF]])),
    inputs.Row("inf and absent", lambda rng: np.array([[INF, -INF, INF]])),
    inputs.Row("nan", lambda rng: np.array([[0.0, NAN, 1.0]])),
    inputs.Row("nan masked elsewhere", lambda rng: np.array([[0.0, NAN, 1.0]]), -1, np.array([False, True, True])),
    inputs.Row("confident", lambda rng: np.array([[0.0, -20.0], [-37.0, 0.0]])),  # losses that 1 − p does not know
    inputs.Row("far below 0", lambda rng: np.array([[-800.0, -801.0, -802.0]])),
    inputs.Row("offset", lambda rng: 1e4 + rng.standard_normal((2, 4))),
    inputs.Row("huge", lambda rng: np.array([[1e30, -1e30, 0.0], [8e307, -8e307, 8e307]])),  # β x overflows
    inputs.Row("tiny", lambda rng: np.array([[1e-30, -3e-30, 2e-30]])),  # no difference survives exp
)
CASES = [case for case in registry.CASES if set(case.extras(inputs.BY_NAME["normal"], np.float32)) <= {"labels"}]
CASES = [case for case in CASES if case.name != "softmax_cross_entropy"]  # the page has integer labels
GRID = [(case, row, beta) for case in CASES for row in ROWS for beta in BETAS if case.takes_where or row.where is None]
HASH = "#x=0.5,-inf,2&where=111&beta=-1.5&y=C&f=entropy"

BEFORE = """<script>
window.failures = [];
addEventListener("error", (event) => failures.push(String(event.message)));
addEventListener("unhandledrejection", (event) => failures.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => failures.push(event.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...args) => failures.push(args.join(" "));
</script>"""
AFTER = """<script>
(async () => {
  const found = { shown: {} }, $ = (query) => document.querySelector(query);
  const named = (text) => [...document.querySelectorAll("button")].find((b) => b.textContent === text);
  const column = (id, k) => [...$(id).rows].map((tr) => tr.cells[k].querySelector("span[title]").title);
  const look = (name) => { found.shown[name] = { hash: location.hash, beta: $("#beta").value,
    slider: $("#beta-slider").value, temperature: $("#temperature").textContent, base: $("#base").textContent,
    p: column("#probabilities", 2), log_p: column("#probabilities", 3), naive: column("#probabilities", 4),
    text: [...$("#probabilities").rows].map((tr) => tr.cells[2].textContent),
    bars: [...$("#probabilities").rows].map((tr) => tr.querySelector("i").getAttribute("style")),
    logits: [...document.querySelectorAll("#logits input[type=text]")].map((i) => i.value),
    counted: [...document.querySelectorAll("#logits input[type=checkbox]")].map((i) => i.checked),
    label: [...document.querySelectorAll("#logits input[type=radio]")].findIndex((i) => i.checked),
    scalars: Object.fromEntries([...$("#scalars").rows].map((tr) => [tr.cells[0].firstChild.textContent.trim(),
      tr.cells[1].textContent])), gradient: column("#gradient", 2), operator: $("#operator").value,
    value: $("#operator-value span").title, python: $("#python").textContent, verdict: $("#verdict").textContent,
    charts: [...document.querySelectorAll("#charts svg[role=img]")].map((s) => s.outerHTML),
    markers: [...document.querySelectorAll(".marker")].map((line) => Number(line.getAttribute("x1"))) }; };
  const put = (input, value, ...events) => {
    input.value = value;
    for (const kind of events) input.dispatchEvent(new Event(kind, { bubbles: true }));
  };
  try {
    look("opened");
    found.values = CALLS.map(({ name, args }) => {
      const [x, options] = [args[0], args.at(-1)], label = args.slice(1, -1);
      const f = jsoftmax[name], pull = jsoftmax.vjp[name];
      return x.map((row, i) => {
        const o = { beta: options.beta, where: options.where && options.where[i] }, y = label.map((l) => l[i]);
        return [f(row, ...y, o), pull ? pull(options.g[i], row, ...y, o) : null, jsoftmax.logsumexp_rise(row, o)];
      });
    });
    found.bad_labels = [-1, 2, 0.5].map((y) => {
      const name = "softmax_cross_entropy_with_integer_labels";
      return [jsoftmax[name]([0, 1], y), ...jsoftmax.vjp[name](1, [0, 1], y).x];
    });
    for (const [text] of PRESETS) { named(text).click(); look(text); }
    named("Lost digits").click();
    for (const { value } of $("#operator").options) { put($("#operator"), value, "change"); look("1 − p by " + value); }
    found.far = [jsoftmax.softmax, jsoftmax.log_softmax].map((f) => f([1.5e308, -1.5e308, 0], { beta: 1e-308 }));
    found.faint = jsoftmax.logmeanexp([1e-200, 3e-200, 0], { beta: 1e-200 });
    named("A tie").click();
    put($("#beta-slider"), -1000, "input"); look("slider at its start");
    put($("#beta-slider"), 1000, "input"); look("slider at its end");
    put($("#beta-slider"), 0, "input"); look("slider in the middle");
    put($("#beta"), "-2.5e-3", "input", "change"); look("typed");
    put($("#beta"), "-Infinity", "input", "change"); look("typed -inf");
    put($("#beta"), "many", "input"); found.refused = $("#beta").getAttribute("aria-invalid");
    put($("#beta"), "many", "change"); look("nonsense");
    named("Start").click();
    for (const logit of ["-inf", "inf"]) {
      put(document.querySelectorAll("#logits input[type=text]")[1], logit, "input", "change"); look("logit " + logit);
    }
    document.querySelectorAll("#logits input[type=checkbox]")[1].click(); look("masked");
    put(document.querySelectorAll("#logits input[type=range]")[3], "2.5", "input"); look("logit slid");
    document.querySelectorAll("#logits input[type=radio]")[2].click();
    put($("#operator"), "logmeanexp", "change"); look("label and operator");
    for (let i = 0; i < 6; i++) $("#add").click();
    look("added"); found.full = $("#add").disabled;
    for (let i = 0; i < 9; i++) { const b = $(".remove"); if (!b.disabled) b.click(); }
    look("removed");
    for (const [name, hash] of [["hash", "#x=1e30,0,nan&where=110&beta=inf&y=B&f=softmax"],
      ["bad hash", "#x=1,zwei&beta=&y=Z&f=toString"], ["restored", found.shown["Huge (1e30)"].hash]]) {
      const come = new Promise((done) => addEventListener("hashchange", done, { once: true }));
      location.hash = hash; await come; look(name);
    }
    const chart = () => $("#charts [role=img]"), box = chart().getBoundingClientRect();
    const at = (x, kind) => chart().dispatchEvent(new PointerEvent(kind,
      { bubbles: true, pointerId: 1, clientX: box.left + x, clientY: box.top + 90 }));
    Element.prototype.setPointerCapture = () => {};  // of a pointer that is not there
    at(9999, "pointerdown"); at(9999, "pointerup"); look("dragged");
    found.wide = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
    found.unnamed = [...document.querySelectorAll("input, select, button")].filter((e) => !(e.getAttribute("aria-label")
      || e.labels && e.labels.length || e.textContent.trim())).map((e) => e.outerHTML);
  } catch (error) { failures.push(String(error.stack)); }
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.failures = failures;
  const pre = Object.assign(document.createElement("pre"), { id: "found" });
  pre.textContent = JSON.stringify(found, (_, v) => typeof v === "number" && !Number.isFinite(v) ? String(v) : v);
  document.body.append(pre);
})();
</script>"""


class Called(NamedTuple):
    """What the page's function and its derivative gave for one sample of the registry."""

    case: registry.Case
    sample: registry.Sample
    g: np.ndarray
    value: np.ndarray
    bars: dict[str, np.ndarray] | None
    rises: list[dict[str, Any]]


def of(case, row, beta):
    s = registry.sample(case, row, np.dtype(np.float64), beta)
    static = {"axis": -1} | ({"keepdims": False} if "keepdims" in s.static else {})
    s = s._replace(static=static)
    return s, registry.cotangent(case, s)


def call(case, s, g):
    x = s.arrays[case.logits]
    where = np.broadcast_to(s.arrays["where"], x.shape).tolist() if "where" in s.arrays else None
    options = {"beta": float(s.arrays["beta"]), "where": where, "g": g.tolist()}
    labels = [s.arrays["labels"].tolist()] if "labels" in s.arrays else []
    return {"name": case.name, "args": [x.tolist(), *labels, options]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the scripts wrote down."""
    with jax.enable_x64(True):
        calls = [call(case, *of(case, row, beta)) for case, row, beta in GRID]
    names = re.findall(r'^    \["([^"]+)", \{ x:', SOURCE, re.MULTILINE)
    assert len(names) > 8 and SOURCE.count("<script>") == 2
    # numbers of JSON as Python writes it, NaN and Infinity among them, are those of JavaScript
    after = AFTER.replace("CALLS", json.dumps(calls)).replace("PRESETS", json.dumps([[name] for name in names]))
    text = SOURCE.replace("<script>", BEFORE + "<script>", 1).replace("</body>", after + "</body>")
    folder = tmp_path_factory.mktemp("explore")
    (folder / "explore.html").write_text(text, encoding="utf-8")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1800", "--virtual-time-budget=20000"]
    address = (folder / "explore.html").as_uri() + HASH
    command = [BROWSER, *switches, f"--user-data-dir={folder / 'profile'}", "--dump-dom", address]
    dom = subprocess.run(command, capture_output=True, timeout=60, check=True, encoding="utf-8").stdout
    written = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert written, dom[-2000:]
    return json.loads(html.unescape(written[1]))


def numbers(a):
    return np.array(a, np.float64)


@pytest.fixture(scope="module")
def called(found):
    out = []
    with jax.enable_x64(True):
        for (case, row, beta), rows in zip(GRID, found["values"], strict=True):
            s, g = of(case, row, beta)
            bars = None
            if rows[0][1] is not None:
                of_x, of_beta = (numbers([bar[name] for _, bar, _ in rows]) for name in ("x", "beta"))
                bars = {case.logits: of_x, "beta": of_beta.sum()}
            out.append(Called(case, s, g, numbers([row[0] for row in rows]), bars, [row[2] for row in rows]))
    return out


NAMES = pytest.mark.parametrize("name", sorted({case.name for case in CASES}))


@pytest.fixture
def wide():
    """In float64; differences of two of the logits overflow, which is NumPy's to bear."""
    with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
        yield


@in_browser
@NAMES
def test_functions_of_the_page_against_the_oracle(called, wide, name):
    for c in called:
        if c.case.name == name:
            bounds.check_value(c.case, c.sample, c.value, registry.exact(c.case, c.sample))
            if c.bars:
                bounds.check_cotangents(c.case, c.sample, c.g, c.bars, registry.exact(c.case, c.sample, c.g))


def of_the_library(samples):
    """Values and cotangents of all samples of an operator by one call: −∞, an absent class, fills rows up to 8."""
    case, first = samples[0].case, samples[0].sample
    sizes = [c.sample.arrays[case.logits].shape for c in samples]

    def filled(name, value, dtype):
        blocks = [np.full((n, 8), value, dtype) for n, _ in sizes]
        for block, c, (_, k) in zip(blocks, samples, sizes, strict=True):
            block[:, :k] = c.sample.arrays.get(name, True)
        return np.concatenate(blocks)

    beta = np.concatenate([np.full(n, c.sample.arrays["beta"]) for c, (n, _) in zip(samples, sizes, strict=True)])
    arrays = {case.logits: filled(case.logits, -INF, np.float64), "beta": beta}
    if case.takes_where:
        arrays["where"] = filled("where", True, bool)
    if case.result_takes_classes:
        arrays["beta"] = beta[:, None]
    if "labels" in first.arrays:
        arrays["labels"] = np.concatenate([c.sample.arrays["labels"] for c in samples])
    whole = first._replace(arrays=arrays)
    like, ends = registry.result_shape(case, whole), np.cumsum([n for n, _ in sizes])
    g = np.zeros(like.shape)
    for c, end, (n, k) in zip(samples, ends, sizes, strict=True):
        g[end - n : end][(slice(None), *(slice(k),) * (g.ndim - 1))] = c.g
    value, bars = map(jax.device_get, registry.value_and_cotangents(case, whole, g, True))
    for end, (n, k) in zip(ends, sizes, strict=True):
        cut = lambda a, n=n, k=k, end=end: a[end - n : end][(slice(None), *(slice(k),) * (a.ndim - 1))]  # noqa: E731
        yield cut(value), {case.logits: cut(bars[case.logits]), "beta": bars["beta"][end - n : end].sum()}


@in_browser
@NAMES
def test_functions_of_the_page_against_the_library(called, wide, name):
    samples = [c for c in called if c.case.name == name]
    for c, (value, bars) in zip(samples, of_the_library(samples), strict=True):
        bounds.check_value(c.case, c.sample, c.value, value)
        if c.bars:
            bounds.check_cotangents(c.case, c.sample, c.g, c.bars, bars)


# the controls ------------------------------------------------------------------------------------------------------

LETTERS = "ABCDEFGH"


class Shown(NamedTuple):
    """The example that the address holds."""

    x: np.ndarray
    where: np.ndarray
    beta: float
    label: int
    operator: str


def held(address):
    parts = dict(part.split("=") for part in address.removeprefix("#").split("&"))
    where = np.array([digit == "1" for digit in parts["where"]])
    x = numbers(parts["x"].split(","))
    assert x.shape == where.shape
    return Shown(x, where, float(parts["beta"]), LETTERS.index(parts["y"]), parts["f"])


def exact(e):
    """(p, log p, value and gradient of the operator) as the oracle has them."""
    given = {"where": e.where, "beta": np.float64(e.beta)}
    p, log_p = oracle.softmax(e.x, **given), oracle.log_softmax(e.x, **given)
    of, pull = getattr(oracle, e.operator), getattr(oracle, f"{e.operator}_vjp")
    if "labels" in e.operator:
        return p, log_p, of(e.x, np.array(e.label), **given), pull(np.array(1.0), e.x, np.array(e.label), **given)
    value, g = of(e.x, **given), np.array(1.0)
    if value.shape:
        value, g = value[e.label], np.eye(len(e.x))[e.label]
    return p, log_p, value, pull(g, e.x, **given)


def of_page(actual, expected, what):
    """Displayed numbers, whose own bounds are checked above: here it matters only that they are these."""
    actual, expected = numbers(actual), numbers(expected)
    finite = np.abs(np.where(np.isfinite(expected), expected, 0)).max(initial=0.0)
    tolerance.check(actual, expected, np.float64, tolerance.SECOND_ORDER, what, scale=finite)


@pytest.fixture
def shown(found):
    return found["shown"]


@in_browser
def test_the_page_shows_what_its_address_says(shown, wide):
    for name, seen in shown.items():
        e = held(seen["hash"])
        p, log_p, value, bars = exact(e)
        of_page(seen["p"], p, f"p on {name}")
        of_page(seen["log_p"], log_p, f"log p on {name}")
        of_page(seen["value"], value, f"value on {name}")
        of_page(seen["gradient"], [*bars.get("x", bars.get("logits")), bars["beta"]], f"gradient on {name}")
        assert [bool(c) for c in seen["counted"]] == e.where.tolist(), name
        assert (seen["operator"], seen["label"], float(seen["beta"])) == (e.operator, e.label, e.beta), name
        np.testing.assert_array_equal(numbers(seen["logits"]), e.x)
        widths = [re.search(r"width:(.*)%", style)[1] for style in seen["bars"]]
        of_page(widths, np.where(np.isnan(p), 0, 100 * p), f"bars on {name}")
        assert len(seen["charts"]) == 4


@in_browser
def test_the_address_restores_an_example(shown):
    assert shown["opened"]["hash"] == HASH
    assert all(shown["restored"][k] == shown["Huge (1e30)"][k] for k in ("hash", "logits", "beta", "p", "scalars"))
    e = held(shown["hash"]["hash"])
    np.testing.assert_array_equal(e.x, [1e30, 0.0, NAN])
    assert (e.where.tolist(), e.beta, e.label, e.operator) == ([True, True, False], INF, 1, "softmax")
    assert shown["hash"]["p"] == ["1", "0", "0"]
    assert held(shown["bad hash"]["hash"])._replace(x=None, where=None) == (None, None, INF, 0, "softmax")


@in_browser
def test_ends_of_the_slider_are_the_infinities(shown):
    start, middle, end = (shown[f"slider {where}"] for where in ("at its start", "in the middle", "at its end"))
    assert [seen["beta"] for seen in (start, middle, end)] == ["-inf", "0", "inf"]
    assert [seen["text"] for seen in (start, middle, end)] == [
        ["0", "0", "0", "1"],
        ["0.25"] * 4,
        ["0.5", "0.5", "0", "0"],
    ]
    assert [seen["temperature"] for seen in (start, middle, end)] == ["0", "±∞", "0"]
    assert [seen["base"] for seen in (start, middle, end)] == ["0", "1", "∞"]
    assert start["markers"][0] < middle["markers"][0] < end["markers"][0]
    assert shown["dragged"]["beta"] == "inf"


@in_browser
def test_numbers_are_typed(found, shown):
    assert [shown[name]["beta"] for name in ("typed", "typed -inf", "nonsense")] == ["-0.0025", "-inf", "-inf"]
    assert found["refused"] == "true"
    assert shown["logit -inf"]["text"][1] == "0"
    assert shown["logit inf"]["text"] == ["NaN"] * 4
    assert shown["masked"]["text"][1] == "0" and "NaN" not in shown["masked"]["text"]
    assert shown["logit slid"]["logits"][3] == "2.5"
    assert (shown["label and operator"]["label"], shown["label and operator"]["operator"]) == (2, "logmeanexp")
    assert len(shown["added"]["logits"]) == 8 and found["full"]
    assert len(shown["removed"]["logits"]) == 2


@in_browser
def test_examples_show_where_the_naive_formula_fails(shown):
    assert shown["Huge (1e30)"]["text"] == ["1", "0", "0"] and shown["Huge (1e30)"]["naive"] == ["nan", "0", "0"]
    assert shown["All masked"]["text"] == ["0", "0", "0"] and shown["All masked"]["naive"] == ["nan"] * 3
    assert shown["Confident"]["text"] == ["1", "2.06115e−9"]
    assert shown["Lost digits"]["scalars"]["cross-entropy of y = A"] == "8.53305e−17"
    assert shown["A tie"]["text"] == ["0.5", "0.5", "0", "0"]
    assert "right" in shown["Start"]["verdict"] and "fails" in shown["Far below 0"]["verdict"]
    assert set(shown["A NaN"]["text"]) == {"NaN"}


@in_browser
@pytest.mark.parametrize(
    "name", ["opened", "A tie", "All masked", "Confident", "logit inf", "label and operator", "hash"]
)
def test_python_on_the_page_gives_what_it_shows(shown, wide, name):
    line = shown[name]["python"]
    assert re.fullmatch(r"jsoftmax\.[\w.\[\](), =+-]+", line)
    of_page(shown[name]["value"], eval(line, {"jsoftmax": jsoftmax, "jnp": jnp}), line)


@in_browser
def test_differences_that_overflow(found):
    x, beta = np.array([1.5e308, -1.5e308, 0.0]), 1e-308
    for of, actual in zip((oracle.softmax, oracle.log_softmax), found["far"], strict=True):
        tolerance.check(numbers(actual), of(x, beta=beta), np.float64, tolerance.TORTURE, of.__name__)


@in_browser
def test_products_that_underflow(found):
    wanted = oracle.logmeanexp(np.array([1e-200, 3e-200, 0.0]), beta=1e-200)
    tolerance.check(numbers(found["faint"]), wanted, np.float64, tolerance.TORTURE, "logmeanexp", floor=0.0)


@in_browser
def test_bound_of_log_sum_exp(called, wide):
    """β (logsumexp − m) is what the label at the peak loses, and log n of n live classes at most."""
    bound = tolerance.VALUE[registry.INTEGER]
    for c in called:
        beta, x = float(c.sample.arrays["beta"]), c.sample.arrays[c.case.logits]
        if c.case.name != "logsumexp" or not np.isfinite(beta) or beta == 0:
            continue
        live = np.broadcast_to(c.sample.arrays.get("where", True), x.shape) & (x != -INF)
        peak = np.argmax(np.where(live, np.sign(beta) * x, -INF), axis=-1)
        wanted = oracle.softmax_cross_entropy_with_integer_labels(x, peak, where=live, beta=beta)
        wanted = np.where(live.any(-1), wanted, 0)
        found = numbers([[beta * float(rise[k]) for k in ("value", "bound")] for rise in c.rises])
        gap = 2 * registry.geometry(c.case, c.sample).beside[:, 0]
        what = f"rise on {c.sample.id} at beta {beta}"
        tolerance.check(found[:, 0], wanted, np.float64, bound, what, gap=gap, floor=max(1.0, abs(beta)))
        most = np.where(np.isnan(wanted), found[:, 1], np.log(np.maximum(live.sum(-1), 1)))
        tolerance.check(found[:, 1], most, np.float64, bound, what)
        assert not (found[:, 0] > found[:, 1]).any() and not (found[:, 0] < 0).any(), what


@in_browser
def test_nothing_goes_wrong_in_the_browser(found):
    assert found["failures"] == [] and found["requests"] == []
    assert found["unnamed"] == [], "a control without a label"
    assert found["wide"][0] <= found["wide"][1], "it scrolls sideways"
    assert found["bad_labels"] == [["NaN"] * 3] * 3


def test_the_page_is_one_file():
    assert not re.search(r"https?://|//\w+\.|<link|@import|\bsrc=|url\((?!#)|\bimport\(|fetch\(|XMLHttpRequest", SOURCE)
    assert set(re.findall(r'href="([^"]*)"', SOURCE)) == {"index.html"}
    assert "default-src 'none'" in SOURCE
