"""The processors and the memory available to this process."""
