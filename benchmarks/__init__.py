"""The benchmark suite: daskcal beside its peers and beside the limits of the machine."""
