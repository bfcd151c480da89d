"""docs/accuracy.md and the printed summary, from the JSON alone."""

import collections
import math

from experiments._accuracy_text import TEXT
from experiments.benchmarks.operators import OPERATORS

DTYPES = ("float32", "float64", "bfloat16", "float16")
QUANTITIES = ("value", "gradient", "label gradient")
OURS = "jsoftmax"
INTEGER = "softmax_cross_entropy_with_integer_labels"
BOUNDS = {
    ("softmax", "value"): "(8 + x_max − x_i) u",
    ("log_softmax", "value"): "(4 + D) u",
    ("logsumexp", "value"): "(4 + D) u of max(\\|m\\|, \\|lse\\|)",
    ("softmax_cross_entropy", "value"): "(4 + D) u",
    (INTEGER, "value"): "(4 + D) u",
    (INTEGER, "label gradient"): "(4 + D) u",
}


def rows_of(table):
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def select(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def worst(rows, key="max"):
    """The row that is largest in `key`, or None."""
    return max((row for row in rows if row[key] is not None), key=lambda row: float(row[key]), default=None)


def number(value):
    """Two digits of an error, not below 0.01: 0.52, 133, 1.6e7."""
    value = float(value)
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if value < 9999.5:
        return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}" if value >= 0.1 else f"{value:.2f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def digits(value):
    return f"{float(value):.9g}"


def markdown(header, body):
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def case(row):
    mode = "" if row["mode"] == "jit" else ", eager"
    return f"{row['input']}, {row['dtype']}{mode}: {digits(row['actual'])} for {digits(row['exact'])}"


def confident(rows):
    """Loss and label gradient of [0, −c] at label 0: exact, ours and the peer's."""
    body = []
    for dtype in ("float32", "float64"):
        for name in [f"[0, −{c}]" for c in (5, 20, 40, 80)]:
            for quantity in ("value", "label gradient"):
                given = {"operator": INTEGER, "input": name, "dtype": dtype, "quantity": quantity, "mode": "jit"}
                ours, peer = (
                    worst(select(rows, function=function, **given)) for function in (OURS, OPERATORS[INTEGER].peer_name)
                )
                if ours and peer:
                    body.append(
                        [
                            *(name, dtype, "loss" if quantity == "value" else quantity, digits(ours["exact"])),
                            *(f"**{digits(ours['actual'])}**", f"**{number(ours['max'])}**"),
                            *(digits(peer["actual"]), number(peer["max"])),
                        ]
                    )
    return markdown(["row", "dtype", "result", "exact", "**jsoftmax**", "**ulp**", "optax", "ulp"], body)


def overview(rows):
    """The worst of every input, mode and dtype, ours and the peers'."""
    body = []
    for name, operator in OPERATORS.items():
        for quantity in QUANTITIES:
            found = select(rows, operator=name, quantity=quantity)
            if not found:
                continue
            line = [f"`{name}`, {quantity}", BOUNDS.get((name, quantity), "–")]
            for wide in (True, False):
                kept = [row for row in found if (row["dtype"] in ("float32", "float64")) == wide]
                ours, peer = (worst(select(kept, function=function)) for function in (OURS, operator.peer_name))
                line += [f"**{number(ours['max'])}**", number(peer["max"])] if ours and peer else ["–", "–"]
            share = worst(select(found, function=OURS), "of_bound")
            body.append([*line, f"{float(share['of_bound']):.2f}" if share else "–"])
    header = ["result", "bound, float32 and float64", "**jsoftmax**", "peer", "**jsoftmax**, half", "peer, half"]
    return markdown([*header, "share of the bound"], body)


def errors(rows, name, quantity):
    """Inputs × dtypes: the largest error over the modes, and the median, ours beside the peers'."""
    found, peer = select(rows, operator=name, quantity=quantity), OPERATORS[name].peer_name
    present = {(row["dtype"], row["function"]) for row in found}
    columns = [(d, f) for d in DTYPES for f in (OURS, peer, "SciPy") if (d, f) in present]
    cells = collections.defaultdict(list)
    for row in found:
        cells[row["input"], row["dtype"], row["function"]].append(row)
    body = []
    for source in dict.fromkeys(row["input"] for row in found):
        line = [source]
        for dtype, function in columns:
            row = worst(cells[source, dtype, function])
            text = f"{number(row['max'])} ({number(row['median'])})" if row else "–"
            line.append(f"**{text}**" if row and function == OURS else text)
        body.append(line)
    if any(row["of_bound"] is not None for row in found):
        shares = [worst(select(found, dtype=d, function=f), "of_bound") for d, f in columns]
        body.append(["largest share of the bound", *(number(row["of_bound"]) if row else "–" for row in shares)])
    return markdown(["input", *(f"{dtype} **{f}**" if f == OURS else f"{dtype} {f}" for dtype, f in columns)], body)


def operator_section(rows, name):
    parts = [f"### `{name}`"]
    for quantity in QUANTITIES:
        found = select(rows, operator=name, quantity=quantity)
        if not found:
            continue
        bound = BOUNDS.get((name, quantity))
        parts.append(f"**{quantity.capitalize()}**" + (f", bound {bound}" if bound else "") + ":")
        parts.append(errors(rows, name, quantity))
        for kinds in (("float32", "float64"), ("bfloat16", "float16")):
            ours = worst([row for row in select(found, function=OURS) if row["dtype"] in kinds])
            if ours:
                parts.append(f"Worst of jsoftmax in {' and '.join(kinds)}: {number(ours['max'])} ulp, {case(ours)}.")
    return "\n\n".join(parts)


def missed(rows):
    """Where jsoftmax is outside its bound."""
    body = [
        [
            *(f"`{row['operator']}`, {row['quantity']}", row["input"], row["dtype"], row["mode"]),
            *(f"{float(row['of_bound']):.3f}", number(row["max"]), digits(row["actual"]), digits(row["exact"])),
        ]
        for row in select(rows, function=OURS)
        if row["of_bound"] is not None and float(row["of_bound"]) > 1
    ]
    measured = sum(row["of_bound"] is not None for row in select(rows, function=OURS))
    if not body:
        return f"In none of the {measured} measurements that have a bound."
    header = ["result", "input", "dtype", "mode", "share of the bound", "largest error, ulp", "there", "exact"]
    return f"In {len(body)} of the {measured} measurements that have a bound.\n\n" + markdown(header, body)


def beta_table(results):
    body = []
    for row in rows_of(results["beta"]):
        marked = row["function"] if row["function"] != OURS else f"**{OURS}**"
        counts = [str(row[key]) for key in ("configurations", "not finite", "off by 1 %", "outside the contract")]
        body.append([f"`{row['operator']}`", marked, row["mode"], *counts])
    return markdown(["operator", "function", "mode", *results["beta"]["columns"][3:]], body)


def beta_example(example):
    """A configuration that fails, or nothing."""
    if example is None:
        return ""
    calls = [key for key in example if "softmax" in key]
    lines = [f"beta = {example['beta']:.9g}", f"x = {example['x']}", *(f"{key} → {example[key]}" for key in calls)]
    return "For example, under jit:\n\n```\n" + "\n".join(lines) + "\n```\n"


def summary(results):
    rows = rows_of(results["errors"])
    return "\n\n".join((confident(rows), overview(rows), "Outside the bound: " + missed(rows), beta_table(results)))


def page(results):
    rows, run = rows_of(results["errors"]), results["run"]
    return TEXT.format(
        command=run["command"],
        versions=", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        device=run["device"],
        shapes=", ".join(str(tuple(shape)) for shape in results["beta"]["shapes"]),
        betas=", ".join(f"{beta:.4g}" for beta in run["settings"]["betas"]),
        scales=", ".join(f"{size:g}".replace("+", "") for size in run["settings"]["scales"]),
        confident=confident(rows),
        overview=overview(rows),
        missed=missed(rows),
        operators="\n\n".join(operator_section(rows, name) for name in OPERATORS),
        beta=beta_table(results),
        example=beta_example(results["beta"]["example"]),
    )
