"""All that a worker imports to train a job, so that it has it before the job comes."""

import torch._dynamo  # by DDP, when it wraps a network
import torch.distributed
import torch.nn.parallel

import jobs.checkpoint
import jobs.models.stored
import jobs.train
import orchestrator.execution.member
import orchestrator.execution.network
import orchestrator.execution.worker
import orchestrator.tracking.client

__all__ = ["jobs", "orchestrator", "torch"]
