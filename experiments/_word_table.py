"""The results of the word vectors as tables in Markdown, from their JSON alone; docs/word_vectors.md holds them."""

from experiments._tables import document, rows_of


def table(results):
    parts = [_corpus(results["corpus"]), _training(results), _neighbours(results["training"])]
    if any(run["similarity"] for run in results["training"]):
        parts.append(_similarity(results["training"]))
    if results["costs"]:
        parts.append(_costs(results["costs"]))
    if results["bias"]:
        parts.append(_bias(results["bias"]))
    return document(parts)


def _corpus(c):
    head = "corpus", "vocabulary", "training pairs", "held-out pairs", "unigram loss, nats"
    numbers = (f"{c['vocabulary']}", *(f"{c['pairs'][part]:,}" for part in ("training", "held_out")))
    return rows_of(head, [(c["name"], *numbers, f"{c['unigram_loss']:.3f}")])


def _training(results):
    head = (
        "method",
        "held-out loss: least, last",
        "as it is",
        "log Z: mean, deviation",
        "largest error of Σ p",
        "ms a step",
    )
    rows = []
    for run in results["training"]:
        last, least = run["held_out"][-1], min(judged["nll"] for judged in run["held_out"])
        cells = "–", "–", "–"
        if last["log_z"]:
            z = last["log_z"]
            cells = f"{last['as_it_is']:.3f}", f"{z['mean']:.3f}, {z['deviation']:.3f}", f"{run['mass_error']:.1e}"
        losses, ms = f"{least:.3f}, {last['nll']:.3f}", f"{1000 * run['seconds_a_step']:.1f}"
        rows.append((run["name"], losses, *(cell.replace("-", "−") for cell in cells), ms))
    return rows_of(head, rows)


def _neighbours(training, shown=3):
    words = list(training[0]["neighbours"])[:shown]
    rows = [(run["name"], *(", ".join(run["neighbours"][word]) for word in words)) for run in training]
    return rows_of(("method", *(f"near “{word}”" for word in words)), rows)


def _similarity(training):
    tests = list(training[0]["similarity"])
    head = "method", *(f"{test}, {training[0]['similarity'][test]['pairs']} pairs" for test in tests)
    rows = [(run["name"], *(f"{run['similarity'][test]['spearman']:.2f}" for test in tests)) for run in training]
    return rows_of(head, [tuple(cell.replace("-", "−") for cell in row) for row in rows])


def _costs(parts):
    rows = [
        (p["name"], *(f"{1000 * part['programs'][i]['least']:.2f}" for part in parts))
        for i, p in enumerate(parts[0]["programs"])
    ]
    return rows_of(("ms a step, of classes:", *(f"{part['classes']}" for part in parts)), rows)


def by_name(bias):
    """{variant: its cases}."""
    names = dict.fromkeys(case["name"] for case in bias)
    return {name: [case for case in bias if case["name"] == name] for name in names}


def _bias(bias):
    sizes = sorted({case["candidates"] for case in bias})
    rows = []
    for name, cases in by_name(bias).items():
        found = {case["candidates"]: f"{case['bias']:.2g} ± {case['standard_error']:.1g}" for case in cases}
        rows.append((name, *(found.get(size, "").replace("-", "−") for size in sizes)))
    return rows_of(("candidates, drawn", *map(str, sizes)), rows)
