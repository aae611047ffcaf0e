"""A search as Ray documents it: Tune, and in each trial a TorchTrainer of its own; float32, default layout.

    python -m benchmarks.documented SPEC.json

Images go through a DataLoader with torchvision's transforms, every trial reads its data and its teacher, everything
else is as it comes. Two settings are not: trials take a resource of their own, since with the CPU that Tune gives them
by default they would starve their own workers, and Ray's chatter goes to a file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def loop(config: dict[str, Any]) -> None:
    """What each worker of a trial runs."""
    import ray.train
    import torch
    from ray.train.torch import prepare_data_loader, prepare_model
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms as T

    from benchmarks.loops import _Images
    from jobs import specfile
    from jobs.data.sets import Arrays
    from jobs.models import load
    from jobs.spec import JobSpec

    spec = specfile.read(config["job"], JobSpec)
    data = spec.data.open()
    assert isinstance(data.train, Arrays)
    assert isinstance(data.val, Arrays)
    scaled = [T.ToTensor(), T.Normalize(data.mean, data.std)]
    train = _Images(data.train, T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), *scaled]))
    val = _Images(data.val, T.Compose(scaled))
    part = spec.batch_size // ray.train.get_context().get_world_size()
    batches = prepare_data_loader(DataLoader(train, batch_size=part, shuffle=True, drop_last=True))
    held_out = prepare_data_loader(DataLoader(val, batch_size=500))
    model = prepare_model(spec.model.build(len(data.classes), data.channels))
    teacher = load(config["teacher"]).network.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.epochs)
    hard = nn.CrossEntropyLoss(label_smoothing=config["epsilon"])
    temperature = config["temperature"]
    for epoch in range(spec.epochs):
        model.train()
        for x, y in batches:
            with torch.no_grad():
                answers = teacher(x)
            logits = model(x)
            soft = nn.functional.kl_div(
                (logits / temperature).log_softmax(1), (answers / temperature).softmax(1), reduction="batchmean"
            )
            loss = hard(logits, y) + soft * temperature**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in held_out)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(model.state_dict(), f"{folder}/model.pt")
            metrics = {"epoch": epoch + 1, "top1": right / len(val)}
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def trial(config: dict[str, Any]) -> None:
    """What Tune runs: a trainer of its own."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=config["workers"]),
        run_config=RunConfig(
            name=f"train-{Path(config['storage']).name}-{config['epsilon']}-{config['temperature']}",
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def main() -> None:
    import ray
    from ray import tune

    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ray.init(num_cpus=2, resources={"driver": 16}, log_to_driver=False)
    space = {name: tune.grid_search(values) for name, values in given.pop("space").items()}
    results = tune.Tuner(
        tune.with_resources(trial, {"driver": 1}),
        param_space={**given, **space},
        tune_config=tune.TuneConfig(metric="top1", mode="max", max_concurrent_trials=2 // given["workers"]),
        run_config=tune.RunConfig(storage_path=given["storage"], name="search"),
    ).fit()
    done = sum(int(result.metrics["epoch"]) for result in results if result.metrics)
    assert not results.errors, results.errors
    print(f"epochs {done}")


if __name__ == "__main__":
    main()
