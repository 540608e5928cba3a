"""Measurements of the package against papers and rivals. `python -m experiments list` names the studies."""
