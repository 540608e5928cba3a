"""A relay, to which all parties of a session dial out, so that no party has to open a port.

`greeting` is what a party and a relay say to each other before bytes are forwarded, `limits` what a relay allows,
`server` the relay itself, `connection` one party's connection to it, and `flow` how it forwards bytes, with a delay and
a bandwidth where they are stated. `client` is a party's side. The parties speak TLS to each other through the relay,
which holds no key and can read nothing. It learns the addresses of the parties, their roles, and the times and sizes of
what they send.

The words of `greeting` have to stay, because parties and relays of two versions meet. The relay must not import torch,
so that it starts at once and fits on a small machine.
"""
