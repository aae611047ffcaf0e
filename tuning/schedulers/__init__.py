"""Ways to end trials early."""

from typing import Annotated

from pydantic import Field

from tuning.schedulers.asha import Asha
from tuning.schedulers.median import Median
from tuning.schedulers.none import NoScheduler
from tuning.schedulers.pbt import PBT
from tuning.schedulers.scheduler import Policy, Scheduler

SchedulerSpec = Annotated[NoScheduler | Asha | Median | PBT, Field(discriminator="kind")]

__all__ = ["PBT", "Asha", "Median", "NoScheduler", "Policy", "Scheduler", "SchedulerSpec"]
