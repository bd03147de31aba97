import torch

from dtkd_mmaction.recognizers.complexity import bytes_for_backward


def test_bytes_for_backward_counts_a_storage_once():
    x = torch.ones(10, requires_grad=True)

    def forward():
        y = x.exp()  # keeps y, 40 bytes
        return (y * y).sum()  # the same storage twice more

    assert bytes_for_backward(forward) == 40
