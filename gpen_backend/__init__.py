"""A GPEN server: checkpoints, alignment, the network, batching and paste-back."""
