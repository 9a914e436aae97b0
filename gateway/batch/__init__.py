"""Many pictures in one request: spooled to disk, enhanced a few at a time, answered as they finish."""
