"""The HTTP API: how a request is read and answered."""
