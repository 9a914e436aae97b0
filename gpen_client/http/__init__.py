"""HTTP exchanges with one backend."""
