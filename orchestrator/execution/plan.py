"""The dry run of a job in words: what it does and takes, and whether the cluster can hold it."""

from __future__ import annotations

import math

import psutil

from jobs.allowed import memory
from jobs.data.jpegs import Jpegs
from jobs.data.sets import Data
from jobs.data.streamed import Streamed
from jobs.remarks import remarks
from jobs.spec import JobSpec
from jobs.words import byte_size
from orchestrator.prepare import Prepared


def plan(found: Prepared) -> tuple[dict[str, str], bool]:
    """Lines to print by name, and whether the job fits."""
    import torch

    from jobs.precision import resolve

    needs, data, cluster = found.needs, found.data, found.cluster
    steps, size, need = needs.steps, needs.size, found.ready.resources
    compiled = {True: ", compiled", False: "", "auto": ", compiled if a probe finds that it pays"}[found.spec.compile]
    spec = resolve(found.ready, torch.device("cuda" if needs.cuda else "cpu"))
    workers, fewest = need.most, spec.sizes[-1]
    span = f"{fewest}"
    if fewest < workers:
        span = f"{fewest} to {workers} ({', '.join(map(str, reversed(spec.sizes)))}): at least {fewest}"
    here = min(memory(), psutil.virtual_memory().available), memory()
    free, room = torch.cuda.mem_get_info() if needs.cuda else here
    asked = needs.worker if needs.cuda else workers * needs.worker + needs.held
    curve = [1, *(round(steps.total * share / 4) for share in (1, 2, 3)), steps.total]
    base = spec.optimizer.rate(spec.batch_size)
    rates = (f"{spec.lr_at(max(1, u), steps):.4g}" for u in curve)
    each = f"{need.cpus_per_worker:g} CPUs{' and 1 GPU' if found.fit.use_gpu else ''}"
    problem = found.fit.problem
    if problem is None and asked > room and not cluster.live:
        problem = "memory: lower resources.workers or batch_size"
    lines = {
        "data": f"{len(data.train)} train, {len(data.val)} val, {len(data.test)} test images; "
        f"{len(data.classes)} classes; {data.size}x{data.size}x{data.channels}; "
        f"{byte_size(needs.held)} in memory, once a node",
        "model": f"{size.parameters:,} parameters, {size.flops_per_image / 2e6:,.1f} million multiply-adds an image",
        "updates": f"{steps.total} ({steps.per_epoch} an epoch) of {spec.batch_size} images: {workers} workers x "
        f"{spec.accumulation} accumulation x {steps.part}",
        "lr": "  ".join(f"update {max(1, u)}: {rate}" for u, rate in zip(curve, rates, strict=True)),
        "arithmetic": f"{spec.precision}, {'NHWC' if spec.channels_last else 'NCHW'}{compiled}",
        "workers": f"{span} of {each} each, of {cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs {cluster.where}",
        "memory": f"{byte_size(needs.worker)} a worker, {byte_size(asked)} of {byte_size(room)} in all, "
        f"{byte_size(free)} free now",
        "disk": f"{byte_size(needs.checkpoint)} a checkpoint, {spec.checkpoint.keep} of them kept",
        "verdict": f"does not fit: {problem}" if problem else "fits",
    }
    if read := loading(found):
        lines["loading"] = read
    if found.fit.remark:
        lines["waits"] = found.fit.remark
    if spec.model.pretrained is not None:
        lines["pretrained"] = _started(spec, data, base)
    if spec.sam is not None:
        lines["sam"] = "two forward and backward passes an update: twice the time"
    if spec.swa is not None:
        lines["swa"] = (
            f"the mean of the last {spec.swa.epochs} epochs, each with one more pass for BatchNorm's statistics"
        )
    if found.taught:
        lines["teacher"] = found.taught
    if found.deleted:
        lines["tracking"] = found.deleted
    notes = [*data.notes, *remarks(spec, steps, data.size)]
    if problem is None and asked > free and not cluster.live:
        cure = ", or choose another GPU with CUDA_VISIBLE_DEVICES" if needs.cuda else ""
        notes.append(f"less memory is free now than the job takes; wait for other programs to end{cure}")
    for number, note in enumerate(notes):
        lines[f"note {number + 1}"] = note
    return lines, problem is None


def loading(found: Prepared) -> str:
    """Who decodes images where a GPU waits for them, and how more of its node's CPUs would; else empty."""
    spec, cpus = found.spec, found.ready.resources.cpus_per_worker
    if not found.fit.use_gpu or not isinstance(found.data.training(spec.resizes), Streamed | Jpegs):
        return ""
    processes = math.ceil(cpus) if spec.data.loader_workers is None else spec.data.loader_workers
    told = f"training images are read by {processes} process{'es' * (processes != 1)} a worker"
    share = min((int(node.cpus / node.gpus) for node in found.cluster.nodes if node.gpus >= 1), default=0)
    if spec.data.loader_workers is None and share > processes:
        told += f"; a GPU's share of its node is {share} CPUs: resources.cpus_per_worker={share} lets so many read"
    return told


def _started(spec: JobSpec, data: Data, lr: float) -> str:
    """What a network starts from, and how it is tuned; ``spec`` with its weights in a folder."""
    from jobs.models.finetune import head
    from jobs.models.meta import on_meta
    from jobs.optimizers.depth import depths

    network = on_meta(spec.model, len(data.classes), data.channels)
    fresh = head(network, spec.model, len(data.classes), data.channels)
    told = f"{len(network.state_dict()) - len(fresh)} tensors; fresh: {', '.join(sorted(fresh))}"
    if frozen := spec.model.freeze_epochs:
        told += f"; they alone learn for {frozen} of {spec.epochs} epochs"
    if (decay := spec.optimizer.layer_decay) is not None:
        deepest = max(depths(network).values())
        told += f"; lr {lr * decay**deepest:.4g} at depth 0 to {lr:.4g} at {deepest}"
    return told
