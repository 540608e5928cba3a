"""What the two owners compute on shares, one protocol a file; most files begin with the formula that they compute.

The model owner and the data owner each hold one share of every secret value, and a dealer hands both of them random
numbers that belong together. In the engine rtas the dealer is the helper too, which computes functions in the clear.

| file | computes |
|---|---|
| engine, dealer | products, squares and truncations on additive shares, with randomness from the dealer |
| public_division | shared numbers divided by a public whole number |
| orders | which requests the dealer accepts |
| masked, levels, harmonics | values opened under masks, their coarse size, and smooth functions of them |
| softmax_plan, softmax, log_softmax | the softmax of bounded logits, and its logarithm |
| permutation, helper_functions | functions that the helper computes in the clear, on values in a random order |
| comparison, borrow_chain | signs and relu, by digits of a mask |
| maximum, group_maximum | maxima of rows, by comparisons of every pair in a group |
| row_division | rows divided by their sums, which lie in any known range |
| unbounded_softmax | the softmax of logits of almost any size, and its logarithm |
| crypten_adapter, crypten_compat | convolutions, and whatever else CrypTen's tensors have, over the engine |
| activations | relu with its derivative, layers, and the softmax of logits without a public bound |
| tensors | private and shared values with the methods of a tensor, which call all of the above |
| committed_opening | how a result is opened to both owners |
| logit_bound, norm_check, checks | what is checked on shares before a result is opened |
"""
