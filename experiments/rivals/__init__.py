"""Other systems that a study measures beside the package."""
