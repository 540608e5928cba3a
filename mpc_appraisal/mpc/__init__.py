"""Secure computation: two owners compute on values that neither of them sees; the only folder that imports crypten.

The parties are the model owner, the data owner, and the dealer, who supplies random numbers. A secret value exists as
two shares, one at each owner. Each share alone is random, and the two add up to the value in a ring (the integers
modulo 2^64).

A method of appraisal uses `session` and the operations in `ops`. Below them, `backends` are the engines that a user
chooses from, `protocols` are the computations on shares, `ring` is the arithmetic, and `net` connects the parties; the
code that runs and prepares sessions uses these too. How an engine computes may change as long as its session keeps its
methods. crypten must not be imported from other folders, since it has to be made loadable first
(`protocols.crypten_compat`).
"""
