"""Attacks on protocols of this project and on CrypTen as it is shipped: one file an attack, and each runs as a test.

Each file begins with the formula, then says who can run the attack, what goes in and comes out, and what stops it. An
attack may become stronger. Its assumptions have to stay stated in its file, because the sentences on leakage that
protocols print rest on these files. `measures` makes attacks choices of the app (`attack=`), which measure what is
recovered beside a guess.
"""
