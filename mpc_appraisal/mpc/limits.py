"""What the engine's softmax can take; see `softmax`."""

LARGEST_EXPONENT = 8.0  # |z| / T
MAX_SQUARINGS = 5  # T = 2^5 at most
