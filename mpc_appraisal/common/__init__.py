"""What every room may use: errors, checks, schemas of JSON, files, locks, texts, roles, stable names, provenance."""
