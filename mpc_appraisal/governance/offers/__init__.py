"""Standing offers of a data owner: signed terms under which a model owner gets answers without asking a person.

`offer` holds one offer and its signature, `limits` compares a request with it, `book` keeps a data owner's offers in a
folder, `taken` counts the answers of a month, and `grant` gives the yes.
"""
