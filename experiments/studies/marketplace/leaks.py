"""What attacks find in what the cloud sees, by setting, and where each stops.

pixels     linear programs on first-layer outputs (attacks.pixel_recovery), at convolutions and dense layers of several
           sizes and at no outputs, which is what `ife_shares` leaves
model      the shopper's classifier from its masked layers and k labelled records (attacks.equivalent_model), beside one
           trained on these records alone; labels read off gradients with the same fit

First layers of the pixel attack have random weights: what W x = z determines is a matter of its shape.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, logarithmic, plain, without_ticks
from experiments.harness.records import Row, select
from experiments.harness.size import source_of
from experiments.studies.marketplace.market import MarketPlan, architecture_of, fit, shopper_model, stream
from mpc_appraisal.attacks.equivalent_model import fit_output, labels_of, predict
from mpc_appraisal.attacks.pixel_recovery import blank_share, recover
from mpc_appraisal.marketplace.protocols.masked_layers import Masks, ShopperSide, mask
from mpc_appraisal.marketplace.protocols.quantised import pixels, quantise
from mpc_appraisal.models.networks import Architecture, Conv, Dense, first_matrix, initial
from mpc_appraisal.mpc.ring.prg import Stream, new_key

KEYS = {"strategy", "who", "learns", "measured", "stops"}
SHOWN = 6  # images in the figure
TRANSFORM, SHARES = "ife_transform", "ife_shares"
PIXELS, MODEL = "pixels", "model"
DRAWS = 5


def jobs(settings: SimpleNamespace, attacks: SimpleNamespace) -> list[Job]:
    """`settings` are those of the market, `attacks` those of this part."""
    return [Job(f"leaks-{name}", run, (settings, attacks)) for name, run in ((PIXELS, run_pixels), (MODEL, run_model))]


def layer_of(sizes: Sequence[int]) -> Conv | Dense | None:
    """Return the layer that sizes.yaml states, None for no output."""
    if len(sizes) < 2:
        return Dense(*sizes) if sizes else None
    channels, kernel, stride, padding = sizes
    return Conv(channels, kernel, stride=stride, padding=padding)


def name_of(layer: Conv | Dense | None) -> str:
    if layer is None:
        return "outputs are shares"
    if isinstance(layer, Dense):
        return f"dense {layer.units}"
    padding = f", padding {layer.padding}" * (layer.padding > 0)
    return f"{layer.channels} x {layer.kernel} x {layer.kernel}, stride {layer.stride}{padding}"


def _row(kind: str, strategy: str, learns: str, measured: str, stops: str, **more: Any) -> Row:
    row = {"part": "leak", "kind": kind, "strategy": strategy, "who": "cloud", "learns": learns}
    return row | {"measured": measured, "stops": stops} | more


def run_pixels(settings: SimpleNamespace, attacks: SimpleNamespace) -> list[Row]:
    _, test = source_of(settings.data).load()
    x, image = pixels(test.x[: attacks.rows]), architecture_of(settings).image
    return [_attacked(image, layer_of(sizes), x, test.classes) for sizes in attacks.layers]


def _attacked(image: tuple[int, ...], layer: Conv | Dense | None, x: np.ndarray, classes: int) -> Row:
    name, w = name_of(layer), np.empty((0, x.shape[1]), dtype=np.int64)
    if layer is not None:
        architecture = Architecture("attacked", image, (layer, Dense(classes)))
        w = quantise(first_matrix(mask(initial(architecture, 0), Masks.draw(architecture)))).w
    found = recover(w, x @ w.T)
    whole, ink = found.image_share(x), found.ink_share(x)
    if layer is None:
        stops = "here: nothing to solve; shopper and cloud together have the outputs"
    elif whole == 1:
        stops = "not here: fewer outputs, or shares"
    else:
        which = "thin digits are recovered" if whole else "all of these, and no guarantee"
        stops = f"on images with more ink than the outputs determine: {which}"
    return _row(
        PIXELS, SHARES if layer is None else TRANSFORM,
        "nothing of the pixels" if layer is None else "pixels of sellers' images",
        f"{name}: {found.equations} equations for {x.shape[1]} pixels; {round(whole * len(x))} of {len(x)} images "
        f"whole, {ink:.0%} of ink pixels (all pixels {found.pixel_share(x):.0%}, a blank guess {blank_share(x):.0%})",
        stops, setting=name, equations=found.equations, rank=found.rank, images=len(x), whole=whole, ink=ink,
        truth=_packed(x[:SHOWN]), found=_packed(found.pixels[:SHOWN]),
    )  # fmt: skip


def run_model(settings: SimpleNamespace, attacks: SimpleNamespace) -> list[Row]:
    """Attack the first shopper of the seed 0; labelled records are drawn from what sellers offer."""
    shop, seed, known = settings.shops[0], 0, attacks.known
    market = MarketPlan.build(settings, shop, seed)
    network = shopper_model(settings, shop, market, seed)
    masks = Masks.draw(network.architecture)
    masked, side = mask(network, masks), ShopperSide(masks)
    (x, y), (public_x, public_y) = market.test, market.pool
    z, own = masked.logits(x), accuracy(network.logits(x).argmax(1), y)
    draws = torch.Generator().manual_seed(stream(seed, 20))
    told = torch.randint(market.classes, (len(y),), generator=draws)  # nothing but the gradient tells them
    sent = side.gradient(z, told)
    copied, trained, labels, shares = ({k: [] for k in known} for _ in range(4))
    for draw in range(DRAWS):
        order = torch.randperm(len(public_y), generator=draws)[: max(known)]
        for k in known:
            some_x, some_y = public_x[order[:k]], public_y[order[:k]]
            fitted = fit_output(masked.logits(some_x), some_y)
            copied[k].append(accuracy(predict(z, fitted), y))
            labels[k].append(accuracy(labels_of(sent, fitted), told))
            alone = initial(network.architecture, stream(seed, 21, draw))
            alone = fit(settings, alone, shop.first, draw, (some_x, some_y))
            trained[k].append(accuracy(alone.logits(x).argmax(1), y))
            pieces = Stream(new_key(), "shares of logits")
            ours, theirs = (pieces.ring((count, market.classes)).double() for count in (k, len(y)))
            shares[k].append(accuracy(predict(theirs, fit_output(ours, some_y)), y))
    return [
        _row(MODEL, TRANSFORM, "the shopper's classifier",
             f"accuracy with k labelled records: {_by_known(copied)}; the shopper's own {own:.3f}; trained on these "
             f"records alone {_by_known(trained)}",
             "with no labelled record at all (clusters of hidden zeros remain), or in shares", own=own,
             copied=_rounded(copied), trained=_rounded(trained)),
        _row("labels", TRANSFORM, "labels of the records trained on",
             f"share read off the shopper's gradients with k labelled records: {_by_known(labels)}",
             "without retraining, or in shares", own=own, labels=_rounded(labels)),
        _row("shares", SHARES, "nothing of model and labels",
             f"the same fit on uniform shares of logits: {np.mean(shares[max(known)]):.3f} with {max(known)} labelled "
             "records; one in ten by chance",
             "here; shopper and cloud together have everything, and the shopper learns logits by design", own=own),
    ]  # fmt: skip


def accuracy(found: Tensor, y: Tensor) -> float:
    return float((found == y).double().mean())


def _by_known(values: dict[int, list[float]]) -> str:
    return ", ".join(f"{np.mean(each):.3f} ({k})" for k, each in values.items())


def _rounded(values: dict[int, list[float]]) -> dict[str, list[float]]:
    return {str(k): [round(v, 5) for v in each] for k, each in values.items()}


def _packed(images: np.ndarray) -> str:
    """Pack SHOWN images (n, d) in 0 .. 255 into text."""
    return base64.b64encode(zlib.compress(images.astype(np.uint8).tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """Return SHOWN images (n, side, side)."""
    found = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).reshape(SHOWN, -1)
    side = round(found.shape[1] ** 0.5)
    return found.reshape(SHOWN, side, side)


def drawing(rows: Sequence[Row]) -> Figure | None:
    """Draw images and what is made of them on the left, the copied model on the right; None if one is missing."""
    found, copied = select(rows, kind=PIXELS), select(rows, kind=MODEL)
    if not found or not copied:
        return None
    figure = blank(11.2, 4.4)
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    _images(left, found)
    _curves(right, copied[0])
    return figure


def _images(panel: SubFigure, found: Sequence[Row]) -> None:
    """Draw the originals; of settings with equations the first, that nearest to half of them, the last; and shares."""
    solved = [r for r in found if r["equations"]]
    between = min(solved[1:-1] or solved, key=lambda r: abs(r["whole"] - 0.5))
    chosen = [solved[0], between, solved[-1], *(r for r in found if not r["equations"])]
    strips = [("the seller's images", found[0]["truth"])]
    strips += [(f"{r['setting']}\n{r['equations']} equations: {r['whole']:.0%} whole", r["found"]) for r in chosen]
    axes = panel.subplots(len(strips), SHOWN + 1, width_ratios=(2.6, *[1] * SHOWN))
    for (text, packed), line in zip(strips, axes, strict=True):
        line[0].text(0.98, 0.5, text, ha="right", va="center", fontsize=8, transform=line[0].transAxes)
        line[0].set_axis_off()
        for axis, image in zip(line[1:], unpacked(packed), strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
            without_ticks(axis)


def _curves(panel: SubFigure, row: Row) -> None:
    axis = panel.subplots()
    for key, colour, style, label in (("copied", ORANGE, "o-", "the cloud's copy of the masked model"),
                                      ("trained", BLUE, "s--", "trained on these records alone")):  # fmt: skip
        known, runs = [int(k) for k in row[key]], np.array(list(row[key].values()))
        middle = runs.mean(1)
        off = [middle - runs.min(1), runs.max(1) - middle]
        axis.errorbar(known, middle, off, fmt=style, color=colour, capsize=2, markersize=5, label=label)
    axis.axhline(row["own"], color=GREY, linestyle=":", label=f"the shopper's own model, {row['own']:.3f}")
    axis.axhline(0.1, color="0.3", linestyle="-.", linewidth=0.8, label="shares: chance")
    logarithmic(axis, known)
    axis.set(ylim=(0, 1.02), xlabel="labelled records that the cloud has, logarithmic")
    axis.set_title("Accuracy on test rows", fontsize=10)
    plain(axis, below=False)
    panel.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
