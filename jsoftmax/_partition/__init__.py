"""The log-partition function: (peak, excess) of a set of logits and what follows from the pair."""
