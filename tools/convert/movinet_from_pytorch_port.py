"""Converts a MoViNet checkpoint of the PyTorch port for MMAction2.

The port is github.com/Atze00/MoViNet-pytorch; the tool derives architecture,
form and number of classes from the weights. The output is loaded with
``load_from`` or as a model spec's ``checkpoint``.
"""

import argparse

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint

import dtkd_mmaction  # noqa: F401  (registers MoViNet)
from dtkd_mmaction.backbones.movinet_conversion import (
    PortLayout,
    from_pytorch_port,
)
from dtkd_mmaction.recognizers.model_spec import checkpoint_state_dict


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='file or URL of the port')
    parser.add_argument('out', help='file to write')
    return parser.parse_args()


def main() -> None:
    """Converts the checkpoint and prints the result."""
    args = parse_args()
    weights = checkpoint_state_dict(
        CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    )
    layout = PortLayout.of(weights)
    converted = from_pytorch_port(weights, layout)
    save_checkpoint(dict(meta={}, state_dict=converted), args.out)
    print(f'{args.out}: {len(converted)} tensors of')
    print(Config(dict(model=layout.model())).pretty_text)


if __name__ == '__main__':
    main()
