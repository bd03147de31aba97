"""Shows the target of the structure discrepancy loss on a clip.

    python tools/analysis/show_masks.py CONFIG --index 3 --out masks.png

The picture has one column per time step of the teachers' common grid. Rows:
the video frame, the norm of the residual (Eq. 8), its mask M_res (Eq. 9), the
mask of the CNN teacher's activation M_act (Eq. 10), and the positions that the
loss keeps. With a checkpoint of a run, another row shows the prediction of its
branch (Eq. 11).
"""

import argparse
import os
import os.path as osp
from typing import Dict, NamedTuple, Optional

import matplotlib
import numpy as np
import torch
from inspection import (
    ask_student,
    build_distiller,
    centre_pipeline,
    centred_dataset,
    innermost,
    load_exactly,
    read_checkpoint,
)
from mmengine.config import Config, DictAction
from mmengine.dataset import Compose
from torch import Tensor

from dtkd_mmaction.distillers import BaseDistiller
from dtkd_mmaction.losses.structure_discrepancy import (
    dual_mask,
    residual_score,
)
from dtkd_mmaction.modules.grid import resize_grid
from dtkd_mmaction.recognizers.model_spec import checkpoint_state_dict

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import ListedColormap  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from dtkd_mmaction.files import save_figure

# Mask -> row and colour; red and green are never opposites.
MASK_ROWS = dict(
    M_res=('M_res', '#0072B2'),
    M_act=('M_act', '#E69F00'),
    kept=('kept', '#CC79A7'),
)


class Picture(NamedTuple):
    """Residual and masks of one clip.

    Attributes:
        frames (Tensor): One video frame per time step of the grid, uint8, (T,
            H, W, 3).
        residual (Tensor): Size of the residual, (T, h, w).
        masks (dict[str, Tensor]): ``'M_res'``, ``'M_act'`` and ``'kept'``,
            each (T, h, w): the fraction of kept channels, which is 0 or 1
            unless every channel has its own mask.
        predicted (Tensor): Size of the branch's output, (T, h, w).
        size (str): Definition of the size, as in ``res_score``.
    """

    frames: Tensor
    residual: Tensor
    masks: Dict[str, Tensor]
    predicted: Tensor
    size: str


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='a config of DualTeacherDistiller')
    parser.add_argument(
        '--checkpoint',
        help='of a run with this config (not the exported student): adds '
        'what its\nbranch predicts; a phi that trains needs it',
    )
    clip = parser.add_mutually_exclusive_group()
    clip.add_argument('--clip', help='a video file')
    clip.add_argument(
        '--index',
        type=int,
        default=0,
        help='place of the clip in the training list; default 0',
    )
    parser.add_argument('--out', default='masks.png')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    return parser.parse_args()


def check(distiller: BaseDistiller, checkpoint: Optional[str]) -> None:
    """Raises an error if this distiller has no (trained) masks."""
    loss = getattr(distiller, 'loss_sd', None)
    if loss is None:
        raise ValueError(
            f'The {type(distiller).__name__} of this config has no loss_sd: '
            'only a DualTeacherDistiller with loss_sd switched on has masks.'
        )
    phi = loss.projections
    if phi.needs_channels(phi.mode, phi.norm) and checkpoint is None:
        raise ValueError(
            f'model.loss_sd: phi={phi.mode!r}, feat_norm={phi.norm!r} is '
            'learnt in the run, so the residual depends on it: give '
            '--checkpoint.'
        )


def read_clip(config: Config, index: int, path: Optional[str]) -> tuple:
    """Reads the centre view of one clip and its name.

    Args:
        config (Config): A distillation config.
        index (int): Index in the training list.
        path (str, optional): A video file instead.

    Returns:
        tuple[dict, str]: A batch of one clip, and its name.
    """
    if path is None:
        dataset = centred_dataset(config, 'train')
        if not -len(dataset) <= index < len(dataset):
            raise ValueError(
                f'--index {index}: the training list has {len(dataset)} clips.'
            )
        name = dataset.get_data_info(index)['filename']
        data = dataset.prepare_data(index)
    else:
        if not osp.isfile(path):
            raise FileNotFoundError(f'--clip {path}: there is no such file.')
        pipeline = innermost(config.train_dataloader.dataset).pipeline
        if pipeline[0]['type'] == 'SegmentInit':
            raise ValueError(
                '--clip: this data set has segments of long videos. Choose '
                'one with --index.'
            )
        clip = dict(filename=path, label=-1, start_index=0, modality='RGB')
        try:
            data = Compose(centre_pipeline(pipeline))(clip)
        except RuntimeError as error:
            raise ValueError(f'--clip {path}: {error}') from error
        name = path
    batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
    return batch, osp.basename(name)


@torch.no_grad()
def look(distiller: BaseDistiller, batch: dict) -> Picture:
    """Computes residual and masks with the functions of the loss.

    Args:
        distiller (BaseDistiller): In eval mode, with ``loss_sd``.
        batch (dict): One clip.
    """
    clips = distiller.data_preprocessor(batch)['inputs']  # (1, 1, 3, T, H, W)
    f_vit, f_cnn = (distiller.teachers[n](clips).map for n in ('vit', 'cnn'))
    predicted = distiller.branch(ask_student(distiller, clips).map)
    loss = distiller.loss_sd
    target = loss.target(f_vit, f_cnn, predicted.shape[2:], predicted.shape[1])
    grid = tuple(target.residual.shape[2:])
    f_cnn = resize_grid(f_cnn, grid)
    masks = dict(kept=target.mask)
    for name, alone in (('M_res', 'res'), ('M_act', 'act')):
        options = dict(loss.mask_options, mask_combine=alone)
        masks[name] = dual_mask(target.residual, f_cnn, **options)
    # One score per channel has no single size; the norm is shown.
    kind = loss.mask_options['res_score']
    kind = 'l2' if kind == 'elementwise' else kind
    return Picture(
        frames=frames_of_grid(clips[0, 0], grid[0]),
        residual=residual_score(target.residual, kind)[0, 0].cpu(),
        masks={n: mask[0].float().mean(0).cpu() for n, mask in masks.items()},
        predicted=residual_score(resize_grid(predicted, grid), kind)[
            0, 0
        ].cpu(),
        size=kind,
    )


def frames_of_grid(clip: Tensor, count: int) -> Tensor:
    """Returns the middle video frame of each time step of a grid.

    Args:
        clip (Tensor): (3, T, H, W), 0 to 255.
        count (int): Frames of the grid.

    Returns:
        Tensor: (count, H, W, 3), uint8.
    """
    frames = clip.shape[1]
    picked = [(2 * i + 1) * frames // (2 * count) for i in range(count)]
    return clip[:, picked].permute(1, 2, 3, 0).byte().cpu()


def draw(picture: Picture, title: str, with_prediction: bool) -> Figure:
    """Draws the images.

    Args:
        picture (Picture): Picture of one clip.
        title (str): Title above it.
        with_prediction (bool): Whether to draw the prediction of a trained
            branch.
    """
    sizes = {'residual': picture.residual}
    if with_prediction:
        sizes['predicted'] = picture.predicted
    rows = 1 + len(sizes) + len(MASK_ROWS)
    frames = picture.frames.numpy()
    columns, height, width = frames.shape[:3]
    side = 1.5
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            side * columns + 2.2,
            (side * height / width + 0.25) * rows + 0.6,
        ),
        squeeze=False,
        layout='constrained',
    )
    where = dict(extent=(0, width, height, 0), interpolation='nearest')
    for t in range(columns):
        axes[0, t].imshow(frames[t], **where)
        axes[0, t].set_title(f'grid frame {t}', fontsize=9)
    label(axes[0, 0], 'frame')
    # One scale, so that a small prediction looks small.
    scale = dict(
        vmin=min(float(values.min()) for values in sizes.values()),
        vmax=max(float(values.max()) for values in sizes.values()),
        cmap='viridis',
    )
    for row, (name, values) in enumerate(sizes.items(), 1):
        for t in range(columns):
            image = axes[row, t].imshow(values[t].numpy(), **where, **scale)
        label(axes[row, 0], name)
    bar = figure.colorbar(
        image,
        ax=axes[1 : 1 + len(sizes)],  # that of these rows alone
        aspect=12 * len(sizes),
        pad=0.02,
    )
    bar.set_label(f'size ({picture.size})', fontsize=9)
    for row, (name, (text, colour)) in enumerate(
        MASK_ROWS.items(), 1 + len(sizes)
    ):
        mask = picture.masks[name]
        for t in range(columns):
            axes[row, t].imshow(
                frames[t].mean(-1),
                cmap='gray',
                vmin=0,
                vmax=255,
                **where,
            )
            axes[row, t].imshow(
                np.ones(mask[t].shape),
                cmap=ListedColormap([colour]),
                alpha=0.65 * mask[t].numpy(),
                **where,
            )
            axes[row, t].set_title(f'{mask[t].mean():.0%}', fontsize=9)
        label(axes[row, 0], f'{text}\n{mask.mean():.1%}\nof the clip')
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=11)
    return figure


def label(axis: plt.Axes, text: str) -> None:
    """Writes the name of a row to its left."""
    axis.set_ylabel(
        text, rotation=0, ha='right', va='center', fontsize=10, labelpad=8
    )


def main() -> None:
    """Builds the distiller, computes the masks and draws them."""
    args = parse_args()
    try:
        os.makedirs(osp.dirname(osp.abspath(args.out)), exist_ok=True)
        config, distiller = build_distiller(args.config, args.cfg_options)
        check(distiller, args.checkpoint)
        batch, name = read_clip(config, args.index, args.clip)
        if args.checkpoint is not None:
            load_exactly(
                distiller,
                checkpoint_state_dict(read_checkpoint(args.checkpoint)),
                args.checkpoint,
            )
        picture = look(distiller, batch)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    options = distiller.loss_sd.mask_options
    title = (
        f'{name}\nzeta {options["zeta"]}, rho {options["rho"]}, quantiles of '
        f'each {options["quantile_scope"]}'
    )
    figure = draw(picture, title, args.checkpoint is not None)
    save_figure(figure, args.out, dpi=120)
    fractions = ', '.join(
        f'{name} {picture.masks[name].mean():.1%}' for name in MASK_ROWS
    )
    print(f'{args.out}: {name}, {fractions}')


if __name__ == '__main__':
    main()
