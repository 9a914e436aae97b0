"""What this machine has: processors and memory."""
