"""Programs of CrypTen for `crypten_party.py`: each takes the module crypten and the rank, and returns plain values."""

from __future__ import annotations

import io
import math
from typing import Any

import torch

from mpc_appraisal.common.errors import InputError

PRODUCTS = 200_000


def numbers(seed: int, *shape: int) -> torch.Tensor:
    """Return numbers that both parties know, so that a test can compute with them too."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def shown(tensor: torch.Tensor) -> list:
    return tensor.double().tolist()


def decode(crypten: Any, rank: int) -> Any:
    """Every ring element of a stretch around -1024, opened: how many numbers are off by more than half."""
    ring = torch.arange(-(1 << 26), (1 << 17) - (1 << 26))
    share = ring if rank == 0 else torch.zeros_like(ring)
    found = crypten.mpc.MPCTensor.from_shares(share).get_plain_text()
    return int(((found.double() - ring.double() / 2**16).abs() > 0.5).sum())


def products(crypten: Any, rank: int) -> Any:
    """Products, of which CrypTen opens some wrong by exactly 1: how many are off by more than half."""
    x, y = numbers(1, PRODUCTS) * 200 - 100, numbers(2, PRODUCTS) * 200 - 100
    found = (crypten.cryptensor(x, src=0) * crypten.cryptensor(y, src=1)).get_plain_text()
    return int(((found.double() - x.double() * y.double()).abs() > 0.5).sum())


def large_products(crypten: Any, rank: int) -> Any:
    """1000 * 1000, 200,000 times: how many are off by more than 1. CrypTen's truncation wraps for 47 of them, or so."""
    x = torch.full((PRODUCTS,), 1000.0)
    found = crypten.cryptensor(x, src=0) * crypten.cryptensor(x, src=1)
    return int(((found.get_plain_text().double() - 1e6).abs() > 1).sum())


def ties(crypten: Any, rank: int) -> Any:
    """Numbers between two ring elements: the largest errors of encodings and the mean error of ties, in units."""
    values, half = ((torch.arange(-2000 * (1 - k), 2000).double() + 0.75 - k / 4) / 2**16 for k in (0, 1))
    found = crypten.encoder.FixedPointEncoder().encode(values).double()
    listed = crypten.encoder.FixedPointEncoder().encode(values.numpy()).double()
    of_ties = crypten.encoder.FixedPointEncoder().encode(half).double() - half * 2**16
    return [*(float((each - values * 2**16).abs().max()) for each in (found, listed)), float(of_ties.mean())]


def refusals(crypten: Any, rank: int) -> Any:
    """What encoding says of what does not fit; nothing is sent."""
    encoder, said = crypten.encoder.FixedPointEncoder(), []
    bad = [torch.tensor([1.0, math.nan]), torch.tensor([math.inf]), torch.tensor([1e15]), torch.tensor([1 << 50]), 1e15,
           math.nan, [1.0, math.inf]]  # fmt: skip
    for each in bad:
        try:
            said.append(encoder.encode(each).tolist())
        except Exception as error:  # noqa: BLE001  the test looks at it
            said.append(f"{type(error).__name__}: {error}")
    return said


def sources(crypten: Any, rank: int) -> Any:
    """The party that is not the source passes an uninitialised tensor; large whole numbers stay whole."""
    x = torch.tensor([1.5, -2.0]) if rank == 1 else torch.full((2,), math.nan)
    whole = torch.tensor([2**24 + 1, -(2**30 + 1)])
    shared = crypten.cryptensor(whole, src=0)
    exact = crypten.mpc.MPCTensor.from_shares(shared.share, precision=0).get_plain_text()
    return [shown(crypten.cryptensor(x, src=1).get_plain_text()), exact.tolist()]


def divisions(crypten: Any, rank: int) -> Any:
    """Division by public numbers: exact where it divides, in place, of tensors, and refused by zero."""
    x = torch.arange(-3000, 3000, 7).float()
    shared = crypten.cryptensor(x * 21, src=0)
    exact = shared.div(21).get_plain_text()
    alias = shared._tensor.share
    in_place = shared._tensor.div_(3)
    same = in_place.share.data_ptr() == alias.data_ptr()
    by = torch.tensor([1, 2, -3, 7, 200] * 200)[: len(x)]
    elementwise = crypten.cryptensor(x, src=1).div(by).get_plain_text()
    large = crypten.cryptensor(torch.full((20_000,), 2.0**40), src=0).div(3).get_plain_text()  # CrypTen wraps for 78
    try:
        crypten.cryptensor(x, src=0).div(0)
        zero = "nothing"
    except Exception as error:  # noqa: BLE001  the test looks at it
        zero = f"{type(error).__name__}: {error}"
    wrong = float((elementwise.double() - x.double() / by.double()).abs().max())
    return [bool(torch.equal(exact, x)), same, wrong, float((large.double() - 2.0**40 / 3).abs().max()), zero]


def statistics(crypten: Any, rank: int) -> Any:
    """What a product and a truncation cost, without cfg.communicator.verbose."""
    x = crypten.cryptensor(torch.ones(1000), src=0)
    crypten.reset_communication_stats()
    before = crypten.communicator.get().get_communication_stats()
    (x * x)  # noqa: B018  a secret product
    found = crypten.communicator.get().get_communication_stats()
    crypten.print_communication_stats()
    return [before, found]


def openings(crypten: Any, rank: int) -> Any:
    """Products are no openings; get_plain_text, reveal and a reduction of the program's own are."""
    x = crypten.cryptensor(torch.tensor([1.0, 2.0, 3.0]), src=0)
    y = (x * x).relu()
    y.get_plain_text()
    one = y.get_plain_text(dst=1)
    y.reveal()
    crypten.communicator.get().all_reduce(y.share)
    return [None if one is None else shown(one)]


def streams(crypten: Any, rank: int) -> Any:
    """What each party draws, with one seed of torch at both: nothing of it is torch's."""
    torch.manual_seed(0)
    rng = crypten.common.rng
    own = rng.generate_random_ring_element((4,))
    bits = rng.generate_kbit_random_tensor((2000,), bitlength=5)
    ring = rng.generate_random_ring_element((2000,), ring_size=10)
    cpu = torch.device("cpu")
    drawn = {k: rng.generate_random_ring_element((3,), generator=crypten.generators[k][cpu]).tolist()
             for k in ("prev", "next", "global")}  # fmt: skip
    seeds = {k: crypten.generators[k][cpu].initial_seed() for k in crypten.generators}
    order = torch.randperm(50, generator=crypten.generators["global"][cpu]).tolist()
    state = torch.get_rng_state()
    share = crypten.cryptensor(torch.zeros(4), src=0).share.tolist()
    crypten.rand(10)
    untouched = bool(torch.equal(state, torch.get_rng_state()))
    try:
        rng.generate_random_ring_element((2,), generator=torch.Generator())
        said = "nothing"
    except TypeError as error:
        said = str(error)
    spans = [int(bits.min()), int(bits.max()), int(ring.min()), int(ring.max())]
    return [own.tolist(), spans, drawn, seeds, order, share, untouched, said]


def dropout(crypten: Any, rank: int) -> Any:
    """The rate of autograd's dropout, its scale, whole channels, and both parties' masks."""
    x = crypten.cryptensor(torch.ones(20_000), src=0, requires_grad=True)
    found = x.dropout(p=0.25).get_plain_text()
    images = crypten.cryptensor(torch.ones(40, 50, 2, 2), src=0, requires_grad=True)
    channels = images._feature_dropout(p=0.5).get_plain_text().flatten(2)
    whole = bool((channels.amin(2) == channels.amax(2)).all())
    return [float((found > 0).float().mean()), sorted(set(found.tolist())), whole, float((channels > 0).float().mean())]


def objects(crypten: Any, rank: int) -> Any:
    """What may be sent arrives as it was; another object is refused at its sender."""
    comm = crypten.communicator.get()
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2), torch.nn.ReLU())
    values = [None, True, -(2**63), 1.5, math.inf, "ü", [1, [2]], (1, 2), {3}, {"a": 1, 2: None}, torch.Size([2, 3]),
              torch.float16, torch.arange(6).reshape(2, 3), torch.tensor(True), torch.tensor(2.5, dtype=torch.float64),
              torch.empty(0, 3), model.state_dict()]  # fmt: skip
    found = [comm.broadcast_obj(values[k] if rank == 0 else None, 0) for k in range(1, len(values))]
    same = []
    for a, b in zip(values[1:], found, strict=True):
        if isinstance(a, torch.Tensor):
            same.append(a.dtype == b.dtype and torch.equal(a, b))
        elif hasattr(a, "items") and "0.weight" in a:
            equal = rank or all(map(torch.equal, a.values(), b.values()))  # rank 1 has a model of its own
            same.append(type(a) is type(b) and list(a) == list(b) and equal)
        else:
            same.append(type(a) is type(b) and a == b)
    sent = comm.broadcast_obj(model.eval() if rank == 0 else None, 0)
    same.append(str(sent) == str(model) and not sent.training and sent(torch.ones(1, 1, 4, 4)).shape == (1, 2, 4, 4))
    said = None
    if rank == 0:
        try:
            comm.send_obj(len, 1)
        except Exception as error:  # noqa: BLE001  the test looks at it
            said = f"{type(error).__name__}: {error}"
    return [[bool(each) for each in same], said]


def pickles(crypten: Any, rank: int) -> Any:
    """A pickle of the other party is refused, and runs nothing."""
    import pickle

    comm, data = crypten.communicator.get(), pickle.dumps({"a": 1})
    if rank == 0:
        comm.send(torch.tensor(len(data), dtype=torch.int32), 1)
        comm.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), 1)
        return None
    try:
        comm.recv_obj(0)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def labels(crypten: Any, rank: int) -> Any:
    """Randomised labels and noise of split learning, each drawn twice with one seed of torch."""
    from crypten.nn.privacy import DPSplitModel

    found = []
    for _ in range(2):
        torch.manual_seed(3)
        model = DPSplitModel(torch.nn.Linear(2, 1), 0, 1, 2.0, noise_src=1, randomized_response_prob=0.4)
        zeros = torch.zeros(4000)
        shared = model._process_targets(crypten.cryptensor(zeros, src=1)).get_plain_text()
        plain = model._process_targets(zeros).get_plain_text()
        torch.manual_seed(3)
        noise = model._generate_noise_from_src((4000,)).get_plain_text()
        found.append([shown(shared), shown(plain), shown(noise), bool(zeros.any())])
    return found


class Named(torch.nn.Module):
    """A program's own class of modules."""

    def __init__(self, width: int):
        super().__init__()
        self.width, self.layer = width, torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.layer(x)


def modules(crypten: Any, rank: int) -> Any:
    """A module of the program's own class: the source's weights stay with it, and an unknown class is refused."""
    file = io.BytesIO()
    torch.save(Named(3), file)
    file.seek(0)
    try:
        crypten.load_from_party(file if rank == 0 else None, src=0)
        said = "nothing"
    except ValueError as error:
        said = f"{type(error).__name__}: {error}"
    file.seek(0)
    found = crypten.load_from_party(file if rank == 0 else None, src=0, model_class=Named)
    return [said, type(found).__name__, found.width, float(found.layer.weight.detach().abs().max()), found.src]


def shares(crypten: Any, rank: int) -> Any:
    """A secret that each party has saved comes back from its own file, and is no secret of one party alone."""
    file = io.BytesIO()
    crypten.save(crypten.cryptensor(torch.tensor([1.5, -2.0]), src=1), file)
    file.seek(0)
    found = crypten.load_from_party(file, encrypted=True)
    own = found.share.tolist()
    try:
        crypten.load_from_party(encrypted=True)
        said = "nothing"
    except InputError as error:
        said = f"{type(error).__name__}: {error}"
    return [shown(found.get_plain_text()), own, said]


def caches(crypten: Any, rank: int) -> Any:
    """Tuples that were dealt ahead, for a product and a comparison, are used once; then the dealer is asked again."""

    def program(x: Any) -> list:
        return [shown((x * x).get_plain_text()), shown(x.relu().get_plain_text())]

    x = crypten.cryptensor(torch.tensor([-2.0, 3.0]), src=0)
    crypten.trace()
    program(x)
    crypten.trace(False)
    crypten.fill_cache()
    provider = crypten.mpc.get_default_provider()
    kept = sum(len(v) for v in provider.tuple_cache.values())
    first, left, second = program(x), sum(len(v) for v in provider.tuple_cache.values()), program(x)
    return [kept, len(provider.request_cache), left, first, second]


def different(crypten: Any, rank: int) -> Any:
    """The parties' programs differ: one sends three numbers where the other takes four."""
    comm = crypten.communicator.get()
    if rank == 0:
        comm.send(torch.ones(3), 1)
        comm.recv(torch.ones(1), 1)
    else:
        comm.recv(torch.ones(4), 0)


def verbs(crypten: Any, rank: int) -> Any:
    """Every verb with tensors of several types, out of order where CrypTen's is, and torch.distributed over them."""
    import torch.distributed as dist

    comm, found = crypten.communicator.get(), []
    for kind in (torch.bool, torch.int32, torch.float64):
        mine = torch.tensor([rank + 1, 2]).to(kind)
        found.append([t.tolist() for t in comm.all_gather(mine)])
    late = torch.zeros(2)
    pending = comm.irecv(late, 1 - rank)
    comm.isend(torch.full((2,), float(rank)), 1 - rank).wait()
    found.append([pending.wait(), late.tolist()])
    deferred = torch.zeros(1)
    comm.irecv(deferred, 1 - rank)
    comm.isend(torch.tensor([5.0 + rank]), 1 - rank)
    both = crypten.cryptensor(torch.tensor([4.0]), src=0).div(4).get_plain_text()  # after it
    found.append([deferred.tolist(), both.tolist()])
    found.append([None if t is None else t.tolist() for t in comm.gather(torch.tensor([rank]), 1)])
    found.append(comm.scatter([torch.tensor([7]), torch.tensor([8])] if rank == 0 else [], 0, size=(1,)).tolist())
    reduced = comm.reduce([torch.tensor([rank + 1]), torch.tensor([[2.5]])], 0, batched=True)
    found.append(None if reduced is None else [t.tolist() for t in reduced])
    found.append(comm.all_reduce(torch.tensor([rank + 1.5]), op=dist.ReduceOp.MAX).tolist())
    comm.barrier()
    total = torch.tensor([rank + 1.0])
    dist.all_reduce(total)
    linear = torch.nn.Linear(2, 1)
    comm.broadcast(linear.weight, 1)
    found += [total.tolist(), dist.get_world_size(), linear.weight.tolist()]
    comm.set_name("alice")
    return [found, [comm.get_name(), comm.get_rank(), comm.get_world_size(), comm.get_ttp_rank()]]
