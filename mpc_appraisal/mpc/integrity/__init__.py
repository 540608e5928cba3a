"""The parts of a check that an owner's messages are what the protocol prescribes: `session.integrity=on`.

| file | what it does |
|---|---|
| message_check | the check of all messages before a result is shown, between both owners and the dealer |
| steps | a program runs to one point after another |
| replay | an owner's program runs again on linear forms, and each of its messages becomes a claim |
| linear_form, public_factors, refusals | shares as linear forms of what was dealt |
| tape, residues | values and cotangents of linear forms, modulo primes |
| plane_form, plane_tape | the same for bits that are shared by exclusive or, with cotangents of 64-bit words |
| subset_claims | many claims become 48, by random subsets that are drawn after the messages |
| matrix_parts, exact_product | dealt matrices that enter products alone, and products with them over the integers |
| bit_sumcheck | claims about bits, by random words, and their sumcheck in a field of 2^128 elements |
| inner_product_check, inner_product_claims, sumcheck | the claims are shown, and nothing else is |

A message that an owner makes is, mod a power of two, a public constant plus an inner product of public weights with the
numbers that the dealer has dealt to that owner. `mpc.protocols.masked` says how openings keep to this, by
`Engine.affine`.
"""
