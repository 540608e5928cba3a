"""Baselines in the clear, one file each: what the private methods approximate, and what they must beat.

In go rows of both owners, and out come values, higher for better data. Both sides' rows have to be in one process. So
baselines serve experiments and the pre-flight, a check of methods on the model owner's own rows, and never a private
run between two owners. A new baseline is a file here and, where it values candidates
together, an entry in `methods.BASELINE_METHODS`.
"""
