"""Relevance and diversity: what they see of candidates of known faults, and what they do not."""
