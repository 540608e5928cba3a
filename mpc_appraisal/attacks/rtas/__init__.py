"""Attacks on random transformations (RTAS and RTAS-fast), and `view`, what a helper sees and they take."""
