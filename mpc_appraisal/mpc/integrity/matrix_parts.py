"""Which dealt matrices enter claims by products alone, so that their weights are products of thin factors.

    <C, A R> = <C R', A>        C (n, k) the cotangent of a product, A (n, d) dealt, R (d, k) public

A mask of a private matrix has most of the numbers that are dealt, and a program takes products of it with thin public
matrices, A R or A' R. A cotangent of A is then C R', over all its products with C and R side by side. It is never
formed: `inner_product_check` takes C and R. In go forms of one tape (see `linear_form`), and which leaves are matrices,
which follows from the dealer's script (`draws.Dealt`); out come cotangents for these parts, and at the prover the
values of the forms. A leaf that is to be a matrix and enters anything else than products is an error of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity.exact_product import ExactProduct
from mpc_appraisal.mpc.integrity.inner_product_claims import DealtMatrix
from mpc_appraisal.mpc.integrity.linear_form import LinearForm
from mpc_appraisal.mpc.integrity.sumcheck import Factors
from mpc_appraisal.mpc.integrity.tape import Matmul, Tape, Transpose
from mpc_appraisal.mpc.ring.pieces import Pieces


@dataclass(frozen=True)
class Product:
    """A product of the tape, A R or its transpose.

    Attributes:
        node: the number of its node.
        right: R, int64 (d, k), or in pieces.
        turned: whether the node's value is (A R)'.
    """

    node: int
    right: np.ndarray | Pieces
    turned: bool


@dataclass(frozen=True)
class MatrixPart:
    """A dealt matrix A, or the transpose of one, and its products.

    Attributes:
        leaf: the number of the leaf.
        transposed: whether A is the transpose of the leaf.
        shape: the shape of A.
        products: all products that enter the claims.
    """

    leaf: int
    transposed: bool
    shape: tuple[int, int]
    products: tuple[Product, ...]

    def values(self, numbers: np.ndarray | Pieces) -> np.ndarray | Pieces:
        """Return A, from the numbers of the leaf."""
        return numbers.T if self.transposed else numbers

    def factors(self, cotangents: dict[int, np.ndarray]) -> Factors:
        """Return the weights of A, from the cotangents mod p of nodes; a node without one has the cotangent 0."""
        if not self.products:
            return Factors(np.zeros((self.shape[0], 1), np.uint32), [np.zeros((self.shape[1], 1), np.int64)])
        found = []
        for product in self.products:
            shape = (self.shape[0], product.right.shape[1])
            c = cotangents.get(product.node)
            found.append(np.zeros(shape, np.uint32) if c is None else c.T if product.turned else c)
        return Factors(_beside(found).astype(np.uint32), [product.right for product in self.products])


class DealtParts:
    """The numbers that were dealt, split into matrices and a vector of the others.

    Args:
        forms: the forms of all claims, of one tape.
        rest: the numbers of the leaves that are in the vector, in its order.
        matrices: the number of each leaf that is a matrix, and whether the matrix is the transposed leaf.

    Attributes:
        parts: the matrices.

    Raises AppraisalError: a leaf of `matrices` enters a form by more than such products, or a leaf is missing.
    """

    def __init__(self, forms: Sequence[LinearForm], rest: Sequence[int], matrices: Sequence[tuple[int, bool]]):
        self.tape, self.wanted, self.rest = forms[0].tape, [form.node for form in forms], list(rest)
        reached = self.tape.reached(self.wanted)
        products, others = _products(self.tape, self.wanted, reached)
        used = {self.tape.nodes[number].leaf for number in reached} - {None}
        wrong = {leaf for leaf, _ in matrices} & others
        wrong |= {leaf for leaf, turned in products if (leaf, turned) not in matrices} - set(rest)
        wrong |= used - set(rest) - {leaf for leaf, _ in matrices}
        if wrong:
            raise AppraisalError(f"integrity: leaves {sorted(wrong)} enter messages by more than the script's products")
        self.parts = []
        for leaf, turned in matrices:
            shape = self.tape.leaves[leaf].shape[:: -1 if turned else 1]
            self.parts.append(MatrixPart(leaf, turned, shape, tuple(products.get((leaf, turned), ()))))
        self.nodes = frozenset(product.node for part in self.parts for product in part.products)

    @property
    def length(self) -> int:
        """The number of elements of the vector."""
        return sum(int(np.prod(self.tape.leaves[k].shape)) for k in self.rest)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The shapes of the matrices."""
        return tuple(part.shape for part in self.parts)

    def vector(self, numbers: Sequence[np.ndarray]) -> np.ndarray:
        """Return what of the numbers of all leaves is in the vector, uint64."""
        return np.concatenate([np.zeros(0, np.uint64), *(numbers[k].reshape(-1) for k in self.rest)])

    def backward(self, cotangents: Sequence[np.ndarray], p: int) -> tuple[np.ndarray, list[Factors]]:
        """Return the cotangents mod p of the vector (uint32) and of each matrix, from those of the forms."""
        found, at_nodes = self.tape.backward_to(self.wanted, cotangents, p, self.nodes)
        vector = np.empty(self.length, np.uint32)
        ends = np.cumsum([found[k].size for k in self.rest])
        for k, end in zip(self.rest, ends, strict=True):
            vector[end - found[k].size : end] = found[k].reshape(-1)
        return vector, [part.factors(at_nodes) for part in self.parts]


class Evaluation:
    """The values of forms at the prover, modulo as many primes as are asked for.

    Args:
        of: the parts of the forms.
        leaves: the numbers of each leaf of the tape, uint64 of its shape and bits, by its number; those of matrices may
            be in pieces.
    """

    def __init__(self, of: DealtParts, leaves: Sequence[np.ndarray] | Mapping[int, np.ndarray | Pieces]):
        self.of, self.leaves = of, leaves
        self._products: dict[int, ExactProduct] = {}
        for part in of.parts:
            values = part.values(self.leaves[part.leaf])
            self._products |= {each.node: ExactProduct(values, each.right) for each in part.products}
        self._turned = {each.node for part in of.parts for each in part.products if each.turned}

    def forward(self, p: int) -> list[np.ndarray]:
        """Return the linear parts of the forms mod p, uint64."""
        given = {node: product.modulo(p) for node, product in self._products.items()}
        given = {node: value.T if node in self._turned else value for node, value in given.items()}
        return self.of.tape.forward(self.of.wanted, self.leaves, p, given)

    @property
    def vector(self) -> np.ndarray:
        """The vector of the dealt numbers, uint64."""
        return self.of.vector(self.leaves)

    @property
    def matrices(self) -> list[DealtMatrix]:
        """The matrices of the dealt numbers."""
        return [DealtMatrix(part.values(self.leaves[part.leaf]), self._modulo(part)) for part in self.of.parts]

    def _modulo(self, part: MatrixPart) -> Callable[[int], np.ndarray]:
        if not part.products:
            return lambda p: np.zeros((part.shape[0], 1), np.uint32)
        return lambda p: _beside([self._products[each.node].modulo(p) for each in part.products])


def _products(
    tape: Tape, wanted: Sequence[int], reached: Sequence[int]
) -> tuple[dict[tuple[int, bool], list[Product]], set[int]]:
    """Return the products of each leaf, transposed or not, and the leaves that enter anything else."""
    turns, found, others = {}, {}, set(wanted)
    for number in reached:
        node = tape.nodes[number]
        if isinstance(node.function, Transpose) and tape.nodes[node.inputs[0]].leaf is not None:
            turns[number] = node.inputs[0]
    for number in reached:
        node = tape.nodes[number]
        for each in node.inputs:
            source, turned = turns.get(each, each), each in turns
            leaf = tape.nodes[source].leaf
            if leaf is None or number in turns:
                continue
            if not isinstance(node.function, Matmul):
                others.add(source)
                continue
            factors, left = node.function.factors, node.function.left
            product = Product(number, factors.T if left else factors, left)
            found.setdefault((leaf, turned != left), []).append(product)
    others |= {turns[number] for number in wanted if number in turns}
    return found, {tape.nodes[number].leaf for number in others} - {None}


def _beside(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Return the matrices side by side; one alone is returned as it lies in memory."""
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)
