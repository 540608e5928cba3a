"""The encrypted marketplace of Song et al., "Try Before You Buy": selection, validation, cost and leaks."""
