"""The secure-computation engine: the only folder that imports crypten."""
