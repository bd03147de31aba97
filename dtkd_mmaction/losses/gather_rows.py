"""Joins the rows of all ranks, with a gradient."""

import torch
import torch.distributed as torch_dist
from mmengine import dist
from torch import Tensor


class GatherWithGradient(torch.autograd.Function):
    """Gathers the rows of all ranks in order, with a gradient to all.

    Backward sums every rank's gradient of the local rows, so that with the
    average that DistributedDataParallel takes afterwards, the parameters get
    the gradient of one loss on the joined batch.
    ``torch.distributed.nn.functional.all_gather`` does the same and is
    deprecated in favour of a private function.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        """Maps (B, D) of this rank to (world size * B, D)."""
        rows = rows.contiguous()
        gathered = [
            torch.empty_like(rows) for _ in range(dist.get_world_size())
        ]
        torch_dist.all_gather(gathered, rows)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """Sums the gradients of all ranks for the rows of this rank."""
        gradient = gradient.contiguous().clone()
        torch_dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """Returns the rows of all ranks; in a single process, the same rows.

    Args:
        rows (Tensor): (B, D), the same shape on every rank.

    Returns:
        Tensor: (world size * B, D).
    """
    if dist.get_world_size() == 1:
        return rows
    return GatherWithGradient.apply(rows)
