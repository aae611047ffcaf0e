"""Losses between logits ``(N, K)`` and soft targets ``(N, K)``."""

from jobs.losses.cross_entropy import CrossEntropy

LossSpec = CrossEntropy

__all__ = ["CrossEntropy", "LossSpec"]
