"""Pictures that callers name by URL: the fetcher and its guard against private addresses."""
