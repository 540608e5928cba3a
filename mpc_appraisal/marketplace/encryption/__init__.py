"""Inner-product functional encryption (IFE) for the marketplace.

A seller encrypts its images x once, the key authority issues function keys for rows w, and the cloud computes <x, w>.
These are the files:

| file | holds |
|---|---|
| scheme | the interface of a scheme, its keys and its ciphertexts |
| lwe, als16 | the two schemes: on lattices (private key) and on an elliptic curve (public key) |
| authority, rank | the key authority, which counts the independent rows that it issues keys for |
| convolution | convolutions as inner products |
| labels, payload, signed_upload | a seller's upload: encrypted labels, arrays, and the signed file |
| noise, residues, security_estimate | for `lwe`: Gaussian noise, exact products mod 2^64, the cost of known attacks |

A scheme may be added beside the two, if its results are exact. The formats of uploads and of the authority's files have
to stay, because both are kept between runs.
"""
