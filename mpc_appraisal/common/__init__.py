"""What every room may use: errors, checks, schemas of JSON, files, locks, texts, roles, stable names, provenance.

A room is a folder of this package. Nothing here may use another room, so that every room can use these files.
"""
