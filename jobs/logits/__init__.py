"""Cache of teachers' logits."""
