"""Photographs for the augmentations, and what torchvision makes of them."""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data.auto_augment import solarize_add
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

PHOTOS = [torch.from_numpy(load_sample_image(name).copy()) for name in ("china.jpg", "flower.jpg")]  # 427 x 640


def pictures(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Uint8 ``(count, height, width, channels)``: parts of photographs, then a flat, a dim and a small-valued one."""
    parts = []
    for number in range(count - 3):
        photo = PHOTOS[number % 2]
        step = min(photo.shape[0] // height, photo.shape[1] // width, 6)
        top, left = 7 * number % (photo.shape[0] - step * height + 1), 31 * number % (photo.shape[1] - step * width + 1)
        parts.append(photo[top::step, left::step][:height, :width])
    last = parts[-1]
    batch = torch.stack([*parts, torch.full_like(last, 77), last // 8 + 90, last // 100])
    return (batch if channels == 3 else batch[..., :channels]).contiguous()


def torchvisions(image: torch.Tensor, op: str, magnitude: float) -> torch.Tensor:
    """The operation of torchvision's AutoAugment on one uint8 ``(H, W, C)`` image; timm's where it has none."""
    if op == "SolarizeAdd":
        grey = image.shape[2] == 1
        brighter = solarize_add(Image.fromarray((image[..., 0] if grey else image).numpy()), int(magnitude))
        return torch.from_numpy(np.array(brighter)).view(image.shape)
    return _apply_op(image.permute(2, 0, 1), op, magnitude, InterpolationMode.NEAREST, None).permute(1, 2, 0)


def shares(outcomes: torch.Tensor) -> tuple[dict[bytes, int], int]:
    """How often each different image stands in ``outcomes``, by its bytes; and how many there are."""
    seen: dict[bytes, int] = {}
    for image in outcomes.flatten(1).numpy():
        seen[image.tobytes()] = seen.get(image.tobytes(), 0) + 1
    return seen, len(outcomes)


def assert_drawn_by(outcomes: torch.Tensor, expected: list[tuple[float, torch.Tensor]]) -> None:
    """Every outcome is one of the expected images, and each as often as its probability says (chi square, 5 sigma)."""
    probability: dict[bytes, float] = {}
    for share, image in expected:
        key = image.contiguous().numpy().tobytes()
        probability[key] = probability.get(key, 0) + share
    assert abs(sum(probability.values()) - 1) < 1e-9
    seen, count = shares(outcomes)
    assert set(seen) <= {key for key, share in probability.items() if share > 0}
    rare = {key for key, share in probability.items() if share * count < 10}
    cells = [(share * count, seen.get(key, 0)) for key, share in probability.items() if key not in rare]
    if rare:
        cells.append((sum(probability[key] for key in rare) * count, sum(seen.get(key, 0) for key in rare)))
    chi = sum((found - wanted) ** 2 / wanted for wanted, found in cells if wanted)
    free = len(cells) - 1
    assert free > 5
    assert free - 5 * (2 * free) ** 0.5 < chi < free + 5 * (2 * free) ** 0.5
