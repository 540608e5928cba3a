"""CrypTen programs over the engine: what is replaced in CrypTen so that a program runs as it stands."""
