"""What every request shares: the thread pool, request ids, limits and the shape of errors."""
