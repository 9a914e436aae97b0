"""Around every request: API keys, rates, admission, logs, metrics, error documents, the server."""
