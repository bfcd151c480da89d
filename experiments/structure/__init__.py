"""What programs are made of, compiled for accelerators that this machine does not have."""
