"""The losses: what is computed from arrays that have passed every check, forward and backward, for all backends."""
