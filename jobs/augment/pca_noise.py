"""PCA noise, also called lighting (Krizhevsky et al., AlexNet, NeurIPS 2012, section 4.1).

Each image gets one colour added to all its pixels: ``sum_k alpha_k lambda_k p_k`` with alpha ~ N(0, std), where p_k and
lambda_k are the principal components of the pixels of ImageNet. Their values are those that gluon-cv, fb.resnet.torch
and others use. Departure: the sum is rounded and cut to 0..255, since images stay uint8 until they are normalised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws

EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""lambda_k, for values in 0..1."""
EIGENVECTORS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))
"""p_k, each as (red, green, blue)."""


def pca_noise(images: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Add ``sum_k alpha_k lambda_k p_k`` to every pixel.

    Args:
        images: uint8 ``(N, H, W, 3)``.
        alpha: float64 ``(N, 3)``.
    """
    import torch

    first, second, third = (255 * value * each for value, each in zip(EIGENVALUES, alpha.unbind(1), strict=True))
    colour = [first * p + second * q + third * r for p, q, r in zip(*EIGENVECTORS, strict=True)]
    shift = torch.stack(colour, 1).to(torch.float32)[:, None, None, :]
    return (images + shift).round_().clamp_(0, 255).to(torch.uint8)


class PCANoise(Augmentation):
    """Shift the colour of each image along the principal components of ImageNet's pixels."""

    kind: Literal["pca_noise"] = "pca_noise"
    std: float = Field(0.1, ge=0, le=10)
    """Standard deviation of each alpha."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Shift each image; three lanes of draws become normal by the inverse of the distribution function.

        Raises:
            ValueError: the images are not in colour.
        """
        import torch

        if images.shape[3] != 3:
            raise ValueError(f"augment.pca_noise needs images in colour, got {images.shape[3]} channel: leave it out")
        uniform = draws.host.uniform("pca_noise", 3).clamp(min=2.0**-54)  # 0 would be minus infinity
        return pca_noise(images, draws.put(self.std * torch.special.ndtri(uniform)))
