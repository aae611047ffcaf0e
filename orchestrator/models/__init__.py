"""What becomes of a finished run: evaluation, promotion, serving."""
