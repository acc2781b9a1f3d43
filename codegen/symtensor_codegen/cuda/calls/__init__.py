"""Calls of a compiled program: what is recorded, replayed, waited for and reported."""
