"""The Open Inference Protocol v2: messages and tensors."""
