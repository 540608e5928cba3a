"""What the owners compute on shares, one protocol a file; each file begins with its formula.

| file | computes |
|---|---|
| engine, dealer | products, squares and truncations on additive shares, with randomness from a dealer |
| orders | which requests the dealer accepts |
| masked, reciprocal, softmax, log_softmax | the softmax without comparisons, and its logarithm |
| permutation, helper_functions | functions that a helper computes in the clear, on values in a random order |
| crypten_adapter, crypten_compat | comparisons, relu and convolutions, by CrypTen over the engine |
| crypten_tape | the differentiation of formulas on shares, by CrypTen's autograd |
| tensors | private and shared values with the methods of a tensor, which call all of the above |
| committed_opening | how a result is opened to both owners |
| logit_bound, norm_check, checks | what is checked on shares before a result is opened |
"""
