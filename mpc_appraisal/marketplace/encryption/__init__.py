"""Inner-product functional encryption: sellers encrypt once, an authority issues keys, a cloud computes <x, w>."""
