"""Random transformations: RTAS, RTAS-fast and InstaHide, each with the attacks on it."""
