"""What is read from a model directory: configuration of each family, tensors by name, weights as mapped files."""
