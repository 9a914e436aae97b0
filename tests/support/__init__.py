"""Servers and processes that several tests use."""
