"""The ratio to the best rival by case and workload, from the rows of one device and JAX version alone."""

import itertools

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from experiments import _plots as plots
from experiments.benchmarks import programs as p
from experiments.benchmarks.plan import quick_case
from experiments.benchmarks.report import name, ours

COLOURS = {p.VALUE: plots.BLUE, p.GRADIENT: plots.ORANGE}
LINE = 0.25  # inches


def draw(rows, path):
    """Two columns of lines, a heading for each case and below it a line for each workload; only `make bench`'s cases,
    so that a full run gives the same figure."""
    groups = _groups([row for row in ours(rows) if quick_case(row)])
    columns = _halves(groups)
    lines = max(sum(1 + len(g) for _, g in column) for column in columns)
    with plt.rc_context(plots.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(13, LINE * lines + 1.4), sharex=True)
        for axis, column in zip(axes, columns, strict=True):
            _column(axis, column, lines)
        for axis in axes:
            _ticks(axis)
        figure.legend(handles=_legend(rows), loc="outside upper center", ncols=5, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        plt.close(figure)


def _groups(rows):
    """[(case, [(workload and dtype, its rows)])]"""
    rows = sorted(rows, key=_order_of_cases(rows))
    return [
        (case, [(line, list(g)) for line, g in itertools.groupby(group, lambda r: (r["workload"], r["dtype"]))])
        for case, group in itertools.groupby(rows, name)
    ]


def _order_of_cases(rows):
    order = list(dict.fromkeys(map(name, rows)))
    return lambda row: order.index(name(row))


def _halves(groups):
    """Cut where both columns are about as long."""
    lengths = list(itertools.accumulate(1 + len(g) for _, g in groups))
    cut = min(range(len(groups)), key=lambda i: abs(lengths[i] - lengths[-1] / 2)) + 1
    return groups[:cut], groups[cut:]


def _column(axis, groups, lines):
    y, ticks = 0, []
    for case, group in groups:
        axis.text(-0.01, y, case, transform=axis.get_yaxis_transform(), ha="right", va="center", weight="bold")
        y += 1
        for (workload, dtype), rows in group:
            ticks.append((y, workload if dtype == "float32" else f"{workload}, {dtype}"))
            for i, row in enumerate(rows):
                _point(axis, y + 0.22 * (i - (len(rows) - 1) / 2), row)
            y += 1
    axis.axvline(1, color="black", linewidth=1)
    axis.set(xscale="log", ylim=(lines - 0.5, -0.5), xlabel="time ÷ best rival's")
    axis.set_yticks([line for line, _ in ticks], [text for _, text in ticks])


def _ticks(axis):
    least, most = axis.get_xlim()
    steps = (1, 2, 5) if most < 100 * least else (1, 3)
    axis.xaxis.set(major_locator=LogLocator(subs=steps), major_formatter=StrMethodFormatter("{x:g}"))
    axis.minorticks_off()


def _point(axis, y, row):
    colour, marker = COLOURS[row["mode"].removesuffix(p.IN_PLACE)], "D" if row["mode"].endswith(p.IN_PLACE) else "o"
    face = "white" if row["best_rival"] in p.OF_TORCH else colour
    axis.plot([row["ratio_p20"], row["ratio_p80"]], [y, y], color=colour, linewidth=1.5)
    axis.plot(row["ratio"], y, marker, color=colour, markerfacecolor=face, markersize=5)


def _legend(rows):
    dot = {"linestyle": "", "markersize": 6}
    handles = [Line2D([], [], marker="o", color=colour, label=mode, **dot) for mode, colour in COLOURS.items()]
    handles.append(Line2D([], [], marker="D", color="grey", label="donated logits", **dot))
    if any(row["function"] in p.OF_TORCH for row in rows):
        handles.append(Line2D([], [], marker="o", color="grey", mfc="white", label="the best is torch", **dot))
    return [*handles, Line2D([], [], color="grey", label="20th to 80th percentile")]
