"""Secure computation: two owners compute on values that neither of them sees; the only folder that imports crypten.

The parties are the model owner, the data owner, and the dealer, who supplies random numbers. A secret value exists as
two shares, one at each owner. Each share alone is random, and the two add up to the value in a ring (the integers
modulo 2^64).

`session` is what the rest of the package uses, with the operations in `ops`. Below it, `backends` are the engines that
a user chooses from, `protocols` are the computations on shares, `ring` is the arithmetic, and `net` connects the
parties. Anything below `session` may change as long as a session keeps its methods. crypten must not be imported from
other folders, since it has to be made loadable first (`protocols.crypten_compat`).
"""
