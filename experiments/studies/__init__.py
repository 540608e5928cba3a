"""The studies. Each is a folder with a `study.py`, its parts, and templates of its reports."""
