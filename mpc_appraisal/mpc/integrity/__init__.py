"""The check that each owner has sent what the protocols prescribe, before a result is opened."""
