"""CrypTen programs over the engine, and over CrypTen 0.4.1 itself."""
