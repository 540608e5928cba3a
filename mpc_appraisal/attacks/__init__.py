"""Attacks on protocols of this project and on CrypTen as shipped: each a file, each run as a test."""
