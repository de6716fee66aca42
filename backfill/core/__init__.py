"""The pure core: values and functions. No clock, no I/O, no environment."""
