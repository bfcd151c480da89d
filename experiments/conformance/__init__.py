"""Conformance as data: what a softmax family has to give, exactly, for any framework to be held to."""
