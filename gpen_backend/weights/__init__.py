"""Published checkpoints and the folder that holds them."""
