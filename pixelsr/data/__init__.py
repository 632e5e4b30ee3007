"""Image loading, preprocessing and conversion to tensors."""
