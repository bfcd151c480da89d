"""The results on associative memories as tables, from their JSON alone; docs/hopfield_images.md holds them."""

from experiments._tables import document, rows_of


def table(results):
    return document([_classic(results), _modern(results), _energy(results)])


def of(rows, **given):
    return [row for row in rows if all(row[k] == v for k, v in given.items())]


def kinds_of(rows):
    return list(dict.fromkeys(row["kind"] for row in rows))


def _classic(results):
    rows, kinds = results["classic"], kinds_of(results["classic"])
    head = "stored M", "M / D", *(f"{kind}: kept" for kind in kinds), *(f"{kind}: restored" for kind in kinds)
    loads = dict.fromkeys(row["stored"] for row in rows)
    body = []
    for load in loads:
        here = [of(rows, kind=kind, stored=load)[0] for kind in kinds]
        numbers = [f"{row[name]:.3f}" for name in ("kept", "restored_mostly") for row in here]
        body.append((f"{load}", f"{load / results['units']:.3f}", *numbers))
    return rows_of(head, body)


def _modern(results):
    """Patterns found after one step."""
    rows = results["modern"]
    betas = list(dict.fromkeys(row["beta"] for row in rows))
    body = []
    for kind, cue, size in dict.fromkeys((row["kind"], row["cue"], row["stored"]) for row in rows):
        found = [of(rows, kind=kind, cue=cue, stored=size, beta=beta)[0]["once"]["whole"] for beta in betas]
        body.append((kind, cue, f"{size}", *(f"{share:.2f}" for share in found)))
    return rows_of(("patterns", "cue", "stored M", *(f"β = {beta:g}" for beta in betas)), body)


def _energy(results):
    head = "network", "patterns", "stored", "β", "energy at first", "in the end", "largest rise in a step"
    body = []
    for row in results["energy"]:
        beta = f"{row['beta']:g}" if "beta" in row else "–"
        ends = [f"{row['mean'][i]:.4g}" for i in (0, -1)]
        rise = "none" if row["largest_rise"] <= 0 else f"{row['largest_rise']:.1e}"
        body.append((row["network"], row["kind"], f"{row['stored']}", beta, *ends, rise))
    return rows_of(head, body)
