"""What is missing, open, mismatched or too small, here and on a cluster."""
