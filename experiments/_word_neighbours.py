"""What word vectors know: which words are near each other, and whether people agree."""

import numpy as np
from scipy.stats import spearmanr

from experiments._text import gensim_data

LONG = 5  # letters of a word whose neighbours are asked for: shorter ones are mostly grammar
JUDGEMENTS = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
LEFT_OUT = "left out: the judgements of word pairs come with gensim (pip install gensim)"


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def neighbours(names, vectors, asked, each):
    """{word: its nearest}, of the `asked` most frequent long words."""
    alike = cosines(np.float64(vectors))
    np.fill_diagonal(alike, -np.inf)
    words = [i for i, name in enumerate(names) if len(name) >= LONG][:asked]
    return {names[i]: [names[j] for j in np.argsort(-alike[i])[:each]] for i in words}


def similarity(names, vectors):
    """{test: pairs of which both words are known, rank correlation with people's}; None without gensim's files."""
    if gensim_data() is None:
        return None
    number, alike = {name: i for i, name in enumerate(names)}, cosines(np.float64(vectors))
    found = {}
    for test, file in JUDGEMENTS.items():
        lines = (gensim_data() / file).read_text(encoding="utf-8").lower().splitlines()
        rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
        known = [(number[a], number[b], float(score)) for a, b, score, *_ in rows if a in number and b in number]
        if len(known) > 2:
            a, b, scores = zip(*known, strict=True)
            found[test] = {"pairs": len(known), "spearman": float(spearmanr(alike[a, b], scores).statistic)}
    return found
