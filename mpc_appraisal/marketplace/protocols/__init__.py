"""Ways to hide data from who computes on them."""
