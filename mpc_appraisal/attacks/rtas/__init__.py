"""Attacks on random transformations (RTAS and RTAS-fast), and `view`, which simulates what they take.

RTAS lets a helper, a third party, apply functions to values in a random order. `view` makes what the helper sees, and
most attacks begin from a `View`. An attack may be added as a file of its own.
"""
