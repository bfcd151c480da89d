"""Time and memory of each operator beside its rivals and beside what the memory of the machine allows."""
