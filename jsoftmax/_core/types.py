"""Shapes and dtypes of traced operands, for readers and for jaxtyping's run-time checks in the tests."""

from jax import Array
from jaxtyping import Bool, Float, Int

Logits = Float[Array, "*shape"]  # and what has a number for each of them
Rows = Float[Array, "..."]  # one number a row, size 1 along the class axes; β may have size 1 elsewhere too
Labels = Int[Array, "..."]  # one a row, size 1 along the class axes
Mask = Bool[Array, "..."] | None  # broadcasts to the logits
Axes = tuple[int, ...]  # of the classes on this device
ClassAxes = tuple[int | str, ...]  # of all classes: positions, then names of the mesh axes over which they are spread
