"""Binary cross-entropy, one yes-or-no question a class ("ResNet strikes back", Wightman et al., arXiv 2110.00476).

``-w_k (y_k log sigmoid(z_k) + (1 - y_k) log sigmoid(-z_k))``, averaged over the batch and the classes (timm's default)
or summed over the classes. It is not linear in its targets, so on mixed or smoothed ones a spec has to say what it
wants: the soft targets as they are, or every class above a threshold counted as fully present, as that paper has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from jobs.losses.loss import Loss, at_least_fp32

if TYPE_CHECKING:
    import torch


class BCE(Loss):
    """Binary cross-entropy with logits."""

    kind: Literal["bce"] = "bce"
    target_threshold: float | None = Field(None, ge=0, lt=1)
    """Targets above it become 1, the others 0; None leaves them as they are."""
    soft_targets: bool = False
    """Accept targets between 0 and 1, from mixing or smoothing, as they are."""
    sum_classes: bool = False
    """Sum over the classes instead of averaging: K times the loss and its gradient."""

    @model_validator(mode="after")
    def _one_word_on_targets(self) -> Self:
        if self.soft_targets and self.target_threshold is not None:
            raise ValueError(
                "soft_targets takes targets as they are, target_threshold rounds them; give one of the two"
            )
        return self

    @property
    def says_targets(self) -> bool:
        """Whether the spec says what soft targets mean."""
        return self.soft_targets or self.target_threshold is not None

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Mean loss, a scalar."""
        import torch

        logits = at_least_fp32(logits)
        if self.target_threshold is not None:
            targets = targets > self.target_threshold
        targets = targets.to(logits.dtype)
        weight = None if weight is None else weight.to(logits.dtype)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, weight=weight)
        return loss * logits.shape[1] if self.sum_classes else loss
