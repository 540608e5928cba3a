"""Baselines in the clear, one file each: what the private methods approximate, and what they must beat."""
