"""Queues, batches and threads."""
