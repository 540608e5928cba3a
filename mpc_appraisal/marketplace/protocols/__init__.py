"""The protocols of the marketplace: masked layers (`ife_transform`) and secret shares (`ife_shares`).

Both take the first layer from functional encryption on quantised weights. Each has a strategy, which states what leaks,
and the computations of its roles. docs/protocols/marketplace.md derives them.
"""
