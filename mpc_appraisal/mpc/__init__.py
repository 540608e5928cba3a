"""Secure computation on shares: the only folder that imports crypten.

`session` is what the rest of the package uses. Below it, `backends` are the engines, `protocols` are what they compute,
`ring` is their arithmetic of integers modulo 2^64, and `net` connects the parties.
"""
