"""Tables of `marketplace_cost.py`, from its rows alone.

A row: part "cost", network, operation, system, images (0: any number), seconds (a list), bytes, and where there is a
result, error (the largest, relative to the largest number).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from marketplace_size import Row
from tenseal_rival import LAYER, NETWORK

from mpc_appraisal.reporting.table import DASH, Table, number

ENCRYPT, MODEL, FIRST, FORWARD, BACK = (
    "data encryption",
    "model encryption",
    "first layer",
    "feed forward",
    "back propagation",
)
OPERATIONS = (ENCRYPT, MODEL, FIRST, FORWARD, BACK)
ABSENT = "not installed"
TRANSFORM, CURVE, SHARES = "ife_transform, LWE", "ife_transform, ALS16", "ife_shares, LWE"
IM2COL, DIAGONALS = "TenSEAL, im2col", "TenSEAL, mm"
NETWORKS = ("cnn6", "cnn3", "mlp")
GOAL = 1000.0
NOTES = (
    "No like for like in security. TenSEAL hides images, results and hidden values from the cloud under a public-key "
    "scheme, and the cloud needs nobody to evaluate. `ife_transform` shows the cloud the first layer's inner products "
    "with every image and an equivalent network; its masks are an obfuscation; its lattice scheme is private-key and "
    "selectively secure, and an authority that could decrypt everything issues the keys. `ife_shares` hides inner "
    "products too, from parties that do not collude.",
    "The first layer of cnn6 has 2,304 outputs of rank 784: whoever sees them has every pixel by least squares, and "
    "the marketplace's authority refuses to issue such keys. It is here because table 1 has six layers, and timed "
    "without that authority; `ife_shares` too.",
    "The unit of the slides' row is unclear: E2DM's own paper has 28.59 s for 64 images. So 1 image and 64 a call.",
    f"TenSEAL: 128 bits, one thread, one image at a time; parameters of its tutorial's network ({NETWORK}) or, for "
    f"a first layer alone, the least modulus that allows one product ({LAYER}). mm: the layer as one matrix, with a "
    "rotation for each pixel. im2col: the seller arranges patches, which only a first layer allows, and the cloud "
    "needs a few rotations for each filter. Packing many images into one ciphertext would serve throughput and is not "
    "measured. Squares in place of ReLU.",
    "ife_shares: three processes on this machine; seconds with the dealer's work; its back propagation is one whole "
    "step with its forward pass.",
)


def _pick(rows: Sequence[Row], network: str, operation: str, system: str, images: int) -> float | None:
    """Median of the seconds."""
    keys = ("network", "operation", "system", "images")
    found = [r for r in rows if tuple(r[key] for key in keys) == (network, operation, system, images)]
    return median(found[0]["seconds"]) if found else None


def tables(rows: Sequence[Row]) -> list[Table]:
    return [_seconds(rows), *_against(rows)]


def _seconds(rows: Sequence[Row]) -> Table:
    """One line for each network, system and number of images."""
    lines = dict.fromkeys((r["network"], r["system"], r["images"]) for r in rows if r["seconds"] and r["images"])
    body = []
    for network, system, images in sorted(lines, key=lambda line: (NETWORKS.index(line[0]), line[1:])):
        mine = [r for r in rows if (r["network"], r["system"]) == (network, system) and r["images"] in (0, images)]
        by_operation = {r["operation"]: r for r in mine}
        cells = [
            number(median(by_operation[name]["seconds"]), 3) if name in by_operation else DASH for name in OPERATIONS
        ]
        sent = [by_operation.get(name, {}).get("bytes") for name in (ENCRYPT, MODEL, FORWARD)]
        sizes = [DASH if size is None else number(size / 1e6, 3) for size in sent]
        errors = [r["error"] for r in mine if r.get("error") is not None]
        runs = {len(r["seconds"]) for r in mine if r["images"]}
        body.append((network, system, str(images), *cells, *sizes, number(max(errors), 2) if errors else DASH,
                     str(max(runs))))  # fmt: skip
    header = ("network", "system", "images", *(f"{name}, s" for name in OPERATIONS), "MB: data", "model", "forward",
              "relative error", "turns")  # fmt: skip
    lost = [r["system"] for r in rows if r["operation"] == ABSENT]
    notes = tuple(f"{system} was not measured: not installed." for system in lost)
    return Table("Cost: medians", header, "llr" + "r" * (len(header) - 3), body, (*notes, *NOTES))


def ratios(rows: Sequence[Row]) -> list[tuple[str, str, str, float, int, float]]:
    """(network, operation, TenSEAL's system, its seconds, images, ours a image) of all that TenSEAL did, in turns with
    `ife_transform` on the same layers."""
    found = []
    for r in rows:
        if not r["system"].startswith("TenSEAL") or not r["seconds"] or r["operation"] == ENCRYPT:
            continue
        for images in sorted({each["images"] for each in rows if each["system"] == TRANSFORM} - {0}):
            ours = _pick(rows, r["network"], r["operation"], TRANSFORM, images)
            if ours is not None:
                found.append((r["network"], r["operation"], r["system"], median(r["seconds"]), images, ours / images))
    return found


def _against(rows: Sequence[Row]) -> list[Table]:
    body = [
        (operation, network, system, number(seconds, 3), str(images), number(ours, 3), f"{number(seconds / ours, 3)} x",
         "yes" if seconds >= GOAL * ours else "no")
        for network, operation, system, seconds, images, ours in sorted(ratios(rows), key=lambda r: (r[1], r[0]))
    ]  # fmt: skip
    if not body:
        return []
    header = ("what", "network", "rival", "its s an image", "our images a call", "our s an image", "ratio",
              f"{GOAL:,.0f} x")  # fmt: skip
    note = "The security is not the same: see the notes under Cost."
    return [
        Table("TenSEAL's CKKS and ife_transform with the lattice scheme, same run", header, "lllrrrrl", body, (note,))
    ]


def summary(rows: Sequence[Row]) -> list[str]:
    """For the first screen."""
    found = ratios(rows)
    if not found:
        return []
    single = [(f"{o} of {n} against {s}", seconds / ours) for n, o, s, seconds, images, ours in found if images == 1]
    told = [
        f"{words}: {'; '.join(f'{name} {number(ratio, 3)} x' for name, ratio in single if (ratio >= GOAL) == high)}"
        for words, high in ((f"{GOAL:,.0f} times or more", True), ("Less", False))
        if any((ratio >= GOAL) == high for _, ratio in single)
    ]
    return [
        f"Cost, one image, seconds of TenSEAL's CKKS over those of `ife_transform` in the same run. {'. '.join(told)}. "
        "Not the same security: TenSEAL shows the cloud nothing, ours the first layer's products with every image; "
        "masks are an obfuscation."
    ]
