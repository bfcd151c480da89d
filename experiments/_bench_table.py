"""The benchmark as text, from its JSON alone."""

STEADY = 1.5  # p80 / p20 of `copy`: the times of a run above it say little


def _row(ours, peer, factor, compiled):
    name = ours["operator"].replace("softmax_cross_entropy_with_integer_labels", "integer cross-entropy")
    medians = " ".join(f"{p['seconds']['median'] * factor:8.1f}" for p in (ours, peer))
    ratio = "{median:.2f} ({p20:.2f}–{p80:.2f})".format(**ours["ratio"])
    temps = " / ".join(f"{p['temporary_bytes'] / 1e6:.1f}" for p in (ours, peer)) if compiled else ""
    label = f"{name:26} {ours['mode']:18} {peer['function']:>6}"
    return f"{label} {medians}  {ratio:18} {ours['copies']['median']:7.2f}  {temps}".rstrip()


def _part(part):
    compiled = part["compiled"]
    unit, factor = ("ms", 1e3) if compiled else ("µs", 1e6)
    at = {(p["operator"], p["mode"], p["function"]): p for p in part["programs"]}
    yardsticks = [
        f"{name} {at[name, 'value', name]['seconds']['median'] * factor:.1f} {unit}" for name in ("copy", "read")
    ]
    return [
        f"{part['shape']}, {part['dtype']}, {'compiled' if compiled else 'eager calls'}; {', '.join(yardsticks)}, "
        f"p80/p20 of copy {part['copy_p80_to_p20']:.2f}",
        *(["The machine was not steady: measure again."] if part["copy_p80_to_p20"] > STEADY else []),
        f"{'operator':26} {'':18} {'peer':>6} {'ours, ' + unit:>8} {'peer':>8}  {'ratio (p20–p80)':18} {'× copy':>7}"
        + ("  temporary MB" if compiled else ""),
        *(_row(p, at[p["operator"], p["mode"], p["peer"]], factor, compiled) for p in part["programs"] if "ratio" in p),
        "",
    ]


def table(results):
    return "\n".join(line for part in results["parts"] for line in _part(part))
