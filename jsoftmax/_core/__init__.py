"""What every layer needs of JAX; knows no operator."""
