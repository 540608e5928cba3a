"""Proofs that each owner's messages are those that the transcript prescribes, before a result is opened.

| file | shows |
|---|---|
| subset_claims | many claims about ring elements by 40 random subsets of them |
| inner_product_check | inner products of public weights and dealt numbers, over the integers |
| sumcheck | an inner product modulo a prime, with messages that are shares |
"""
