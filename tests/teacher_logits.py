"""Random logits of several teachers, and KD in NumPy, for the loss tests."""

import numpy as np
import torch


def random_logits(count, batch=6, classes=5, scale=3.0, seed=0):
    """Student (B, N) and a dict of ``count`` teachers, float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1 + count, batch, classes)
    student, *teachers = scale * torch.randn(
        shape, dtype=torch.float64, generator=generator
    )
    return student, {f't{k}': logits for k, logits in enumerate(teachers)}


def softmax(z, tau=1.0):
    """Computes the softmax of one sample or of rows."""
    e = np.exp((z - z.max(-1, keepdims=True)) / tau)
    return e / e.sum(-1, keepdims=True)


def kd_per_sample(student, teachers, tau):
    """``tau ** 2 KL(teacher || student)`` as an array (B, K)."""
    student = student.detach().numpy()
    values = np.zeros((len(student), len(teachers)))
    for k, teacher in enumerate(teachers.values()):
        for b in range(len(student)):
            p = softmax(teacher[b].numpy(), tau)
            q = softmax(student[b], tau)
            values[b, k] = tau**2 * np.sum(p * np.log(p / q))
    return values
