"""Learning from a teacher, beside the loss on the labels."""

from jobs.distillation.distillation import Distillation, Distiller, distillation_loss
from jobs.distillation.teacher import (
    JobTeacher,
    RunTeacher,
    StoredTeacher,
    Teacher,
    TeacherSpec,
    TimmTeacher,
    TorchvisionTeacher,
)

__all__ = [
    "Distillation",
    "Distiller",
    "JobTeacher",
    "RunTeacher",
    "StoredTeacher",
    "Teacher",
    "TeacherSpec",
    "TimmTeacher",
    "TorchvisionTeacher",
    "distillation_loss",
]
