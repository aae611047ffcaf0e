"""Every metric keeps the contract of ``jobs.metrics.metric``."""

import pytest
import torch

from jobs.evaluate import Tally
from jobs.metrics import METRICS, Metric
from jobs.randomness import generator

each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def batch(count: int, classes: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator("metrics", count)
    logits = 5 * torch.randn(count, classes, generator=source, dtype=dtype)
    return logits, torch.randint(classes, (count,), generator=source)


@each
def test_one_finite_number_an_image_whatever_stands_beside_it(metric: Metric) -> None:
    for dtype in (torch.float32, torch.float64):
        for classes in (metric.min_classes, 1000):
            logits, labels = batch(7, classes, dtype)
            values = metric(logits, labels)
            assert values.shape == (7,) and values.to(torch.float64).isfinite().all()
            alone = torch.cat([metric(logits[i : i + 1], labels[i : i + 1]) for i in range(7)])
            torch.testing.assert_close(alone, values)


def test_names_are_unlike_and_every_metric_is_scored() -> None:
    assert len({metric.name for metric in METRICS} | {"top1", "balanced_accuracy"}) == len(METRICS) + 2
    classes = max(metric.min_classes for metric in METRICS)
    tally = Tally(classes, torch.device("cpu"))
    logits, labels = batch(9, classes)
    tally.add(logits[:5], labels[:5])
    tally.add(logits[5:], labels[5:])
    scores = tally.scores(9)
    for metric in METRICS:
        assert scores.metrics("val")[f"val/{metric.name}"] == pytest.approx(
            float(metric(logits, labels).double().mean())
        )


def test_a_metric_that_needs_more_classes_is_left_out() -> None:
    tally = Tally(5, torch.device("cpu"))
    tally.add(*batch(4, 5))
    assert set(tally.scores(4).means) == {metric.name for metric in METRICS if metric.min_classes <= 5} != set()
    assert "top5" not in tally.scores(4).means
