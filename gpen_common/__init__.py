"""Shared by gateway, client and backend: types, geometry, threads, tracing, downloads."""
