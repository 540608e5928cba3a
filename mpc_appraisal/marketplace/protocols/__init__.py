"""The protocols of the marketplace: masked layers (`ife_transform`) and secret shares (`ife_shares`).

Both take the first layer from functional encryption on quantised weights. Each protocol has a strategy, which states
what leaks, and the computations of its roles; who is asked what, and when, is in roles/. A protocol may be added beside
these two. Its leakage has to be stated in its strategy. docs/protocols/marketplace.md derives both protocols.
"""
