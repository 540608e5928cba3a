"""Data appraisal (Xu, van der Maaten and Hannun): the tables and figures of the paper, and what goes beyond it."""
