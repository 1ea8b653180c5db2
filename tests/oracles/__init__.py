"""Slow, readable definitions that the tests hold the fast code against."""
