"""Experiments: one module asks one question of real data; `python -m experiments.NAME --help` lists its options."""
