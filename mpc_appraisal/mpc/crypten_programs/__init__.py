"""CrypTen's own programs, unchanged, between two owners and a dealer: what `mending.mend` replaces in crypten.

Each file has a function `install(crypten)` and a table of what it replaces and why. A program that never calls `mend`
has CrypTen as it was released, which is the engine `stock`.
"""
