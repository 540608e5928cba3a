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
from dataclasses import dataclass

import numpy as np
import torch
from bench_page import Drawing, blank
from marketplace_size import Job, Market, Row, Size, fit, initial, model, stream
from torch import Tensor

from mpc_appraisal.attacks.equivalent_model import fit_output, labels_of, predict
from mpc_appraisal.attacks.pixel_recovery import blank_share, recover
from mpc_appraisal.marketplace.protocols.masked_layers import Masks, ShopperSide, mask
from mpc_appraisal.marketplace.protocols.quantised import pixels, quantise
from mpc_appraisal.models.networks import Architecture, Conv, Dense, first_matrix
from mpc_appraisal.mpc.ring.prg import Stream, new_key
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import Table

SHOWN = 6  # images in the figure
TRANSFORM, SHARES = "ife_transform", "ife_shares"
PIXELS, MODEL = "pixels", "model"
DRAWS = 5
CAPTION = (
    "Left: test images as the seller has them, and what the cloud makes of the first layer's outputs, by linear "
    "programming. Right: accuracy of the cloud's copy of the shopper's model by the number of labelled records that it "
    "has, beside a model trained on these records alone; bars: least to most of {draws} draws."
)


@dataclass(frozen=True)
class Attacks:
    """layers: None is no output. rows: images attacked. known: numbers of labelled records."""

    layers: tuple[Conv | Dense | None, ...]
    rows: int
    known: tuple[int, ...]


FULL = Attacks(
    (
        Conv(4, 5, stride=2, padding=1),
        Conv(4, 5, stride=2),
        Conv(4, 7, stride=3),
        Dense(400),
        Dense(300),
        Dense(200),
        Dense(100),
        None,
    ),
    40,
    (10, 20, 50, 100, 200, 500),
)
SMALL = Attacks((Conv(3, 3, stride=2, padding=1), Dense(40), Dense(16), None), 12, (10, 50, 100))


def jobs(size: Size) -> list[Job]:
    attacks = FULL if size.name == "full" else SMALL
    return [Job("leaks-pixels", 0, run_pixels, size, (attacks,)), Job("leaks-model", 0, run_model, size, (attacks,))]


def name_of(layer: Conv | Dense | None) -> str:
    if layer is None:
        return "outputs are shares"
    if isinstance(layer, Dense):
        return f"dense {layer.units}"
    padding = f", padding {layer.padding}" * (layer.padding > 0)
    return f"{layer.channels} x {layer.kernel} x {layer.kernel}, stride {layer.stride}{padding}"


def run_pixels(size: Size, attacks: Attacks) -> list[Row]:
    _, test = size.source.load()
    x = pixels(test.x[: attacks.rows])
    return [_attacked(size, layer, x, test.classes) for layer in attacks.layers]


def _attacked(size: Size, layer: Conv | Dense | None, x: np.ndarray, classes: int) -> Row:
    name, w = name_of(layer), np.empty((0, x.shape[1]), dtype=np.int64)
    if layer is not None:
        architecture = Architecture("attacked", size.architecture.image, (layer, Dense(classes)))
        w = quantise(first_matrix(mask(initial(architecture, 0), Masks.draw(architecture)))).w
    found = recover(w, x @ w.T)
    whole, ink = found.image_share(x), found.ink_share(x)
    if layer is None:
        stops = "here: nothing to solve; shopper and cloud together have the outputs"
    elif whole == 1:
        stops = "not here: fewer outputs, or shares"
    else:
        stops = "on images with more ink than the outputs determine: " + (
            "thin digits are recovered" if whole else "all of these, and no guarantee"
        )
    measured = (
        f"{name}: {found.equations} equations for {x.shape[1]} pixels; {round(whole * len(x))} of {len(x)} images "
        f"whole, {ink:.0%} of ink pixels (all pixels {found.pixel_share(x):.0%}, a blank guess {blank_share(x):.0%})"
    )
    return {
        "part": "leak",
        "kind": PIXELS,
        "strategy": SHARES if layer is None else TRANSFORM,
        "who": "cloud",
        "learns": "nothing of the pixels" if layer is None else "pixels of sellers' images",
        "measured": measured,
        "stops": stops,
        "setting": name,
        "equations": found.equations,
        "rank": found.rank,
        "images": len(x),
        "whole": whole,
        "ink": ink,
        "truth": _packed(x[:SHOWN]),
        "found": _packed(found.pixels[:SHOWN]),
    }


def run_model(size: Size, attacks: Attacks) -> list[Row]:
    """At the first shopper of the seed 0; labelled records are drawn from what sellers offer."""
    shop, seed = size.shops[0], 0
    market = Market.build(size, shop, seed)
    network = model(size, shop, market, seed)
    masks = Masks.draw(network.architecture)
    masked, side = mask(network, masks), ShopperSide(masks)
    (x, y), (public_x, public_y) = market.test, market.pool
    z, own = masked.logits(x), accuracy(network.logits(x).argmax(1), y)
    generator = torch.Generator().manual_seed(stream(seed, 20))
    told = torch.randint(market.classes, (len(y),), generator=generator)  # nothing but the gradient tells them
    sent = side.gradient(z, told)
    copied, trained, labels, shares = ({k: [] for k in attacks.known} for _ in range(4))
    for draw in range(DRAWS):
        order = torch.randperm(len(public_y), generator=generator)[: max(attacks.known)]
        for k in attacks.known:
            some_x, some_y = public_x[order[:k]], public_y[order[:k]]
            fitted = fit_output(masked.logits(some_x), some_y)
            copied[k].append(accuracy(predict(z, fitted), y))
            labels[k].append(accuracy(labels_of(sent, fitted), told))
            alone = fit(size, initial(size.architecture, stream(seed, 21, draw)), shop.first, draw, (some_x, some_y))
            trained[k].append(accuracy(alone.logits(x).argmax(1), y))
            pieces = Stream(new_key(), "shares of logits")
            ours, theirs = (pieces.ring((count, market.classes)).double() for count in (k, len(y)))
            shares[k].append(accuracy(predict(theirs, fit_output(ours, some_y)), y))
    most = max(attacks.known)
    facts = {"part": "leak", "who": "cloud", "own": own}
    return [
        facts
        | {
            "kind": MODEL,
            "strategy": TRANSFORM,
            "learns": "the shopper's classifier",
            "measured": "accuracy with k labelled records: "
            + _by_known(copied)
            + f"; the shopper's own {own:.3f}; trained on these records alone {_by_known(trained)}",
            "stops": "with no labelled record at all (clusters of hidden zeros remain), or in shares",
            "copied": _rounded(copied),
            "trained": _rounded(trained),
        },
        facts
        | {
            "kind": "labels",
            "strategy": TRANSFORM,
            "learns": "labels of the records trained on",
            "measured": f"share read off the shopper's gradients with k labelled records: {_by_known(labels)}",
            "stops": "without retraining, or in shares",
            "labels": _rounded(labels),
        },
        facts
        | {
            "kind": "shares",
            "strategy": SHARES,
            "learns": "nothing of model and labels",
            "measured": f"the same fit on uniform shares of logits: {np.mean(shares[most]):.3f} with {most} labelled "
            f"records; one in ten by chance",
            "stops": "here; shopper and cloud together have everything, and the shopper learns logits by design",
        },
    ]


def accuracy(found: Tensor, y: Tensor) -> float:
    return float((found == y).double().mean())


def _by_known(values: dict[int, list[float]]) -> str:
    return ", ".join(f"{np.mean(each):.3f} ({k})" for k, each in values.items())


def _rounded(values: dict[int, list[float]]) -> dict[str, list[float]]:
    return {str(k): [round(v, 5) for v in each] for k, each in values.items()}


def _packed(images: np.ndarray) -> str:
    """(n, d) in 0 .. 255, n being SHOWN."""
    return base64.b64encode(zlib.compress(images.astype(np.uint8).tobytes(), 9)).decode()


def _unpacked(text: str) -> np.ndarray:
    found = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).reshape(SHOWN, -1)
    side = round(found.shape[1] ** 0.5)
    return found.reshape(SHOWN, side, side)


def pixel_rows(rows: Sequence[Row]) -> list[Row]:
    """In the order of the attack."""
    return [r for r in rows if r.get("kind") == PIXELS]


def tables(rows: Sequence[Row]) -> list[Table]:
    """Pixels by setting."""
    found = pixel_rows(rows)
    if not found:
        return []
    body = [
        (r["setting"], str(r["equations"]), str(r["rank"]), f"{round(r['whole'] * r['images'])} of {r['images']}",
         f"{r['ink']:.0%}", r["stops"])
        for r in found
    ]  # fmt: skip
    header = ("first layer", "equations", "rank", "whole images", "ink pixels", "where it stops")
    notes = (
        "The cloud knows W and W x (ife_transform) and looks for the x of least sum; random W, test images. Fewer "
        "outputs than pixels are no protection: digits are sparse, and thin ones fall to few equations.",
    )
    return [Table("Pixels that the cloud recovers", header, "lrrrrl", body, notes)]


def drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Nothing where an attack is missing."""
    found = pixel_rows(rows)
    copied = [r for r in rows if r.get("kind") == MODEL]
    if not found or not copied:
        return []
    figure = blank(11.2, 4.4)
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    _images(left, found)
    _curves(right, copied[0])
    return [Drawing("marketplace-leaks", CAPTION.format(draws=DRAWS), figure)]


def _images(panel, found: Sequence[Row]) -> None:
    """The originals; of settings with equations the first, that with nearest to half of them, the last; shares."""
    solved = [r for r in found if r["equations"]]
    between = min(solved[1:-1] or solved, key=lambda r: abs(r["whole"] - 0.5))
    chosen = [solved[0], between, solved[-1], *(r for r in found if not r["equations"])]
    lines = [("the seller's images", _unpacked(found[0]["truth"]))]
    lines += [
        (f"{r['setting']}\n{r['equations']} equations: {r['whole']:.0%} whole", _unpacked(r["found"])) for r in chosen
    ]
    axes = panel.subplots(len(lines), SHOWN + 1, width_ratios=(2.6, *[1] * SHOWN))
    for (text, images), line in zip(lines, axes, strict=True):
        line[0].text(0.98, 0.5, text, ha="right", va="center", fontsize=8, transform=line[0].transAxes)
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line[1:], images, strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
            axis.patch.set_visible(True)
            axis.set_axis_on()
            axis.set_xticks([])
            axis.set_yticks([])


def _curves(panel, row: Row) -> None:
    axis = panel.subplots()
    for key, colour, style, label in (
        ("copied", ORANGE, "o-", "the cloud's copy of the masked model"),
        ("trained", BLUE, "s--", "trained on these records alone"),
    ):
        known, runs = [int(k) for k in row[key]], list(row[key].values())
        middle = [float(np.mean(each)) for each in runs]
        off = [[m - min(r) for m, r in zip(middle, runs, strict=True)],
               [max(r) - m for m, r in zip(middle, runs, strict=True)]]  # fmt: skip
        axis.errorbar(known, middle, off, fmt=style, color=colour, capsize=2, markersize=5, label=label)
    axis.axhline(row["own"], color=GREY, linestyle=":", label=f"the shopper's own model, {row['own']:.3f}")
    axis.axhline(0.1, color="0.3", linestyle="-.", linewidth=0.8, label="shares: chance")
    axis.set_xscale("log")
    axis.set_xticks(known, [str(k) for k in known])
    axis.minorticks_off()
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("labelled records that the cloud has, logarithmic")
    axis.set_title("Accuracy on test rows", fontsize=10)
    axis.grid(True, color="#e5e7eb", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
