"""Tests every RGB model of MMAction2 as student and as teacher.

Each model takes one training step of ``DualTeacherDistiller`` in each role,
with X3D-S and a small MViTv2 in the other roles, on random clips. Weights are
random and clips are small, so the table shows which models can be combined,
not how well they learn. Needs no network and no data.
"""

import argparse
import functools
import gc
import importlib.metadata
import json
import os
import os.path as osp
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from glob import glob
from typing import Any, Dict, Iterator, List, Optional, Tuple

import mmaction
import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

import dtkd_mmaction
from dtkd_mmaction.files import read_json, write_text
from dtkd_mmaction.recognizers.feature_tap import FeatureTap
from dtkd_mmaction.recognizers.model_spec import (
    forget_pretraining,
    load_config,
    stock_clip,
)
from dtkd_mmaction.recognizers.recording import Recording

ROLES = ('student', 'vit_teacher', 'cnn_teacher')
NUM_CLASSES = 5
BATCH, FRAMES, SIZE = 2, 16, 64

STUDENT = 'x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py'
VIT = 'mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py'
TSN = 'tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py'
OMNISOURCE = (
    'omnisource/slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py'
)
# Backbone -> cfg_options: a smaller clip size for models that have it in their
# constructor, and options that some stock configs need with current packages.
OPTIONS = {
    'TimeSformer': {'backbone.img_size': SIZE},
    'VisionTransformer': {'backbone.img_size': SIZE},
    'UniFormerV2': {
        'backbone.t_size': 8,
        'backbone.input_resolution': SIZE,
    },
    'mmcls.ResNeXt': {'backbone.type': 'mmpretrain.ResNeXt'},
    'timm.swin_base_patch4_window7_224': {
        'backbone.img_size': SIZE,
        'backbone.feature_shape': 'NHWC',
    },
}
# Backbones that need clips other than FRAMES x SIZE: C3D's linear layers.
VIEWS = {'C3D': dict(frames=16, size=112)}
# Backbones of other packages in TSN -> (options, output channels).
OTHER_PACKAGES = {
    'mmpretrain.MobileNetV3': (dict(arch='small_075'), 432),
    'mmpretrain.SwinTransformer': (
        dict(arch='tiny', pad_small_map=True),
        768,
    ),
    'mmpretrain.ConvNeXt': (
        dict(arch='tiny', gap_before_final_norm=False),
        768,
    ),
    'mmpretrain.VisionTransformer': (
        dict(arch='deit-small', img_size=SIZE, out_type='featmap'),
        384,
    ),
    'timm.resnet18': (dict(), 512),
    'timm.mobilenetv3_small_100': (dict(), 576),
    'timm.convnext_tiny': (dict(), 768),
    'timm.vit_small_patch16_224': (dict(img_size=SIZE), 384),
    'torchvision.resnet18': (dict(), 512),
    'torchvision.mobilenet_v2': (dict(), 1280),
    'torchvision.swin_t': (dict(feature_shape='NHWC'), 768),
}
# Options in which configs of one architecture differ.
NOT_ARCHITECTURE = {
    'average_clips',
    'backbone_drop_path_rate',
    'bn_frozen',
    'channel_map',
    'data_preprocessor',
    'drop_path_rate',
    'dropout_ratio',
    'init_scale',
    'init_std',
    'label_smooth_eps',
    'loss_cls',
    'mlp_dropout',
    'norm_eval',
    'num_classes',
    'num_segments',
    'pretrained_type',
    'test_cfg',
    'topk',
    'train_cfg',
    'with_cp',
}


@dataclass
class Case:
    """One model and the result of trying it.

    Attributes:
        family (str): Folder of its config, or the package of its backbone.
        name (str): Name of its config or of its backbone.
        options (dict): ``cfg_options`` of the model spec.
        model (dict): The resulting model config, without pre-training.
        view (dict): ``frames`` and ``size`` of its clips.
        others (list[str]): Configs of the same architecture.
        tap (str): Name of the tapped module.
        grid (tuple): (C, T, H, W) of its feature map.
        alignment (float): See :func:`axis_alignment`.
        embedding_matches (bool): See :func:`is_same_vector`.
        seconds (dict[str, float]): Role -> duration of a successful step.
        reasons (dict[str, str]): Role -> error message of a failed step.
    """

    family: str
    name: str
    options: Dict[str, Any]
    model: dict
    view: Dict[str, int]
    others: List[str] = field(default_factory=list)
    tap: Optional[str] = None
    grid: Optional[Tuple[int, ...]] = None
    alignment: Optional[float] = None
    embedding_matches: Optional[bool] = None
    seconds: Dict[str, float] = field(default_factory=dict)
    reasons: Dict[str, str] = field(default_factory=dict)


# Models


def shipped_configs() -> List[str]:
    """Lists the RGB configs below ``configs/recognition``."""
    root = osp.join(
        osp.dirname(mmaction.__file__), '.mim', 'configs', 'recognition'
    )
    paths = glob(osp.join(root, '**', '*.py'), recursive=True)
    names = sorted(osp.relpath(path, root) for path in paths)
    return [name for name in names if not name.endswith('-flow.py')]


def family_of(path: str) -> str:
    """Returns the folder of a config or the package of a backbone."""
    return path.replace('.', osp.sep).split(osp.sep)[0]


def stock_config(
    path: str, cfg_options: Optional[Dict[str, Any]] = None
) -> Config:
    """Loads a shipped config without its downloads."""
    spec = dict(cfg=f'mmaction::recognition/{path}', cfg_options=cfg_options)
    config = load_config(spec, path)
    forget_pretraining(config.model)
    return config


def make_case(
    family: str, name: str, path: str, options: Optional[dict] = None
) -> Case:
    """Makes a case of one shipped config, at a small size."""
    config = stock_config(path, options)
    if options is None:
        options = OPTIONS.get(config.model['backbone']['type'], {})
        config = stock_config(path, options) if options else config
    backbone = config.model['backbone']
    view = VIEWS.get(backbone['type'], dict(frames=FRAMES, size=SIZE)).copy()
    if config.model['type'] == 'Recognizer2D':
        view['frames'] = stock_clip(config)['frames']
    for option in ('num_frames', 't_size'):
        view['frames'] = backbone.get(option, view['frames'])
    return Case(family, name, options, config.model, view)


def architecture(value: Any) -> Any:
    """Reduces a model dict to what defines its architecture."""
    if isinstance(value, dict):
        return {
            key: architecture(value[key])
            for key in sorted(value)
            if key not in NOT_ARCHITECTURE
        }
    return repr(value)


def shipped_cases(families: Optional[List[str]] = None) -> Iterator[Case]:
    """Yields one case per architecture in MMAction2's configs."""
    cases: Dict[str, Case] = {}
    for path in shipped_configs():
        family = family_of(path)
        if families and family not in families:
            continue
        case = make_case(family, osp.splitext(osp.basename(path))[0], path)
        first = cases.setdefault(f'{family} {architecture(case.model)}', case)
        if first is not case:
            first.others.append(case.name)
    yield from cases.values()


def more_cases(families: Optional[List[str]] = None) -> Iterator[Case]:
    """Yields cases of models that no shipped config has."""
    if not families or 'omnisource' in families:
        # RecognizerOmni cannot be a student, but its backbone can.
        yield make_case(
            'omnisource',
            'OmniResNet in Recognizer3D',
            OMNISOURCE,
            {
                'type': 'Recognizer3D',
                'cls_head': dict(
                    _delete_=True,
                    type='I3DHead',
                    num_classes=400,
                    in_channels=2048,
                ),
                'data_preprocessor.format_shape': 'NCTHW',
            },
        )
    for backbone, (options, channels) in OTHER_PACKAGES.items():
        if families and family_of(backbone) not in families:
            continue
        yield make_case(
            family_of(backbone),
            f'TSN with {backbone}',
            TSN,
            {
                'backbone': dict(_delete_=True, type=backbone, **options),
                'cls_head.in_channels': channels,
            },
        )


# One step


@functools.lru_cache(maxsize=None)
def partner(role: str) -> dict:
    """Returns the spec of the small model in another role."""
    config = stock_config(STUDENT)
    if role == 'vit_teacher':
        arch = dict(
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=1,
            downscale_indices=[1, 2, 3],
        )
        config = stock_config(VIT, {'backbone.arch': arch})
    view = dict(frames=8, size=SIZE)
    return dict(cfg=config.model, checkpoint=None, view=view)


def try_role(case: Case, role: str) -> None:
    """Runs one training step and fills in the case."""
    torch.manual_seed(0)
    specs = {name: partner(name) for name in ROLES}
    specs[role] = dict(cfg=case.model, checkpoint=None, view=case.view)
    distiller = MODELS.build(
        dict(
            type='DualTeacherDistiller',
            num_classes=NUM_CLASSES,
            # Random teachers would have no trust, and so no gradient.
            teacher_trust=False,
            max_gradient_ratio=0,
            **specs,
        )
    )
    distiller.init_weights()
    distiller.train()
    if role == 'student':
        recognizer, tap = distiller.student, distiller.student_tap
    else:
        teacher = distiller.teachers[role.replace('_teacher', '')]
        recognizer, tap = teacher.recognizer, teacher.tap
    case.tap, case.grid = tap.module_name, tap.shapes['map']

    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=1e-3))
    data = distiller.data_preprocessor(random_batch(case.view), training=True)
    backbone = list(distiller.student.backbone.parameters())
    started = time.perf_counter()
    losses = distiller(**data, mode='loss')
    total, _ = distiller.parse_losses(losses)  # raises if not finite
    if role == 'student':  # through the tap alone
        losses['loss_sd'].backward(retain_graph=True)
        check(has_gradient(backbone), 'loss_sd does not reach the backbone')
        distiller.zero_grad()
    optimizer.backward(total)
    check(has_gradient(backbone), 'no gradient reaches the backbone')
    optimizer.step()
    case.seconds[role] = round(time.perf_counter() - started, 2)
    for teacher in distiller.teachers.values():
        check(
            not any(
                parameter.requires_grad or parameter.grad is not None
                for parameter in teacher.parameters()
            ),
            'a teacher has a gradient',
        )
    if case.alignment is None:
        recognizer.eval()
        for module in recognizer.modules():
            # Untrained, its running statistics let activations grow.
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
        clip = torch.randn(clip_shape(case))
        cells = run(recognizer, tap, clip)[0].map.shape[2:]
        recording, read = run(recognizer, tap, clips_that_differ(clip, cells))
        case.alignment = axis_alignment(recording.map)
        case.embedding_matches = is_same_vector(recording.embedding, read)


def random_batch(view: Dict[str, int]) -> dict:
    """Makes random clips with the frames that the largest view needs."""
    size = view['size']
    clips = torch.randint(
        0,
        256,
        (BATCH, 1, 3, max(view['frames'], 8), size, size),
        dtype=torch.uint8,
    )
    samples = [ActionDataSample().set_gt_label(i) for i in range(BATCH)]
    return dict(inputs=list(clips), data_samples=samples)


def has_gradient(parameters: List[nn.Parameter]) -> bool:
    """Returns whether any gradient is not zero."""
    return any(
        parameter.grad is not None and bool(parameter.grad.any())
        for parameter in parameters
    )


def check(holds: bool, problem: str) -> None:
    """Raises an error if a condition does not hold."""
    if not holds:
        raise AssertionError(problem)


# Is the tap right?


@torch.no_grad()
def run(
    recognizer: nn.Module, tap: FeatureTap, clips: Tensor
) -> Tuple[Recording, Tensor]:
    """Runs a model on (B, 1, 3, T, H, W) clips.

    Returns:
        tuple[Recording, Tensor]: The recording of the tap, and the input of
            the head's first linear layer.
    """
    if isinstance(recognizer, MODELS.get('Recognizer2D')):
        clips = clips.squeeze(1).transpose(1, 2).contiguous()
    read = []
    handles = [
        module.register_forward_hook(lambda _, args, __: read.append(args[0]))
        for module in recognizer.cls_head.modules()
        if isinstance(module, nn.Linear)
    ]
    with tap.record(clips) as recording:
        recognizer.extract_feat(clips, stage='head')
    for handle in handles:
        handle.remove()
    return recording, read[0]


def clip_shape(case: Case) -> Tuple[int, ...]:
    """Returns the shape of a clip that gives a larger grid, if possible."""
    backbone = case.model['backbone']
    built_in = {'img_size', 'input_resolution'} & set(backbone)
    # TPNHead fixes its pooling size at the first map.
    size = case.view['size']
    if not (built_in or backbone['type'] in VIEWS or 'neck' in case.model):
        size *= 2
    return (1, 1, 3, case.view['frames'], size, size)


def clips_that_differ(clip: Tensor, cells: Tuple[int, ...]) -> Tensor:
    """Makes seven copies of a clip, six of them with new noise in one part.

    Args:
        clip (Tensor): (1, 1, 3, T, H, W).
        cells (tuple[int, ...]): (T', H', W') of a grid.

    Returns:
        Tensor: (7, 1, 3, T, H, W): the clip; then, per axis, the clip with
            noise at the grid's first cells and with noise at its last cells.
    """
    clips = clip.repeat(7, 1, 1, 1, 1, 1)
    for axis, n in enumerate(cells):
        size = clip.shape[3 + axis]
        length = max(size // n, 1)
        for index, start in ((1, 0), (2, size - length)):
            changed = clips[2 * axis + index].narrow(2 + axis, start, length)
            changed.copy_(torch.randn_like(changed))
    return clips


def axis_alignment(grid: Tensor) -> float:
    """Measures whether a grid's axes are the clip's time, height and width.

    Noise at the first and at the last cells of an axis
    (:func:`clips_that_differ`) changes the grid. The centre of this change
    must move along the same axis of the grid, and less along the others.

    Args:
        grid (Tensor): (7, C, T, H, W).

    Returns:
        float: Movement of the centre as a fraction of the axis, for the axis
            on which it is smallest. 1: only the cells with noise change; 0:
            all cells change equally; negative: the centre moves more along
            another axis.
    """
    cells = grid.shape[2:]
    grid = grid.double()
    change = (grid[1:] - grid[:1]).norm(dim=1)  # (6, T, H, W)
    change /= change.sum(dim=(1, 2, 3), keepdim=True)
    centres = torch.stack(
        [
            change.movedim(axis, 1).flatten(2).sum(dim=2)
            @ torch.linspace(0, 1, n, dtype=torch.double)
            for axis, n in enumerate(cells, start=1)
        ],
        dim=1,
    )
    moves = centres[1::2] - centres[::2]  # (axis of the noise, axis of grid)
    shares = []
    for axis, n in enumerate(cells):
        if n > 1:
            own, most = moves[axis, axis], moves[axis].abs().max()
            shares.append(float(own if own > most - 0.02 else -most))
    return round(min(shares), 3)


def is_same_vector(embedding: Tensor, read: Tensor) -> bool:
    """Returns whether the embedding equals the head's input.

    The order of the channels is ignored, and the head's input is averaged
    over the frames of a 2-D model.
    """
    read = read.reshape(len(embedding), -1, read.shape[-1]).mean(dim=1)
    return read.shape == embedding.shape and torch.allclose(
        read.sort().values, embedding.sort().values, rtol=1e-3, atol=1e-5
    )


# The table


def first_line(error: Exception) -> str:
    """Returns an error's message on one line, without local paths."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ''
    text = text.replace(osp.dirname(osp.dirname(mmaction.__file__)), '...')
    return f'{type(error).__name__}: {text}'


def yes_or_no(value: Optional[bool]) -> str:
    """Formats a truth value; None is empty."""
    return '' if value is None else 'yes' if value else 'no'


def markdown(cases: List[Case], roles: List[str], untried: List[str]) -> str:
    """Returns the text of ``docs/supported_models.md``."""
    reasons: List[str] = []

    def cell(case: Case, role: str) -> str:
        if role in case.seconds:
            return f'{case.seconds[role]:.1f} s'
        reason = f'`{case.name}`, {role}: {case.reasons[role]}'
        reasons.append(reason)
        return f'no ({len(reasons)})'

    def row(cells: List[str]) -> str:
        return f'| {" | ".join(cells)} |'

    head = [
        'family',
        'model',
        'clip',
        'tap',
        '(C, T, H, W)',
        'axes',
        'embedding',
    ]
    table = [row([*head, *roles]), row(['---'] * (len(head) + len(roles)))]
    for case in cases:
        more = f' +{len(case.others)}' if case.others else ''
        clip = '{frames}x{size}x{size}'.format(**case.view)
        table.append(
            row(
                [
                    case.family,
                    f'{case.name}{more}',
                    clip,
                    f'`{case.tap}`' if case.tap else '',
                    'x'.join(map(str, case.grid or [])),
                    '' if case.alignment is None else f'{case.alignment:.2f}',
                    yes_or_no(case.embedding_matches),
                    *[cell(case, role) for role in roles],
                ]
            )
        )
    tried = len(cases) * len(roles)
    served = sum(len(case.seconds) for case in cases)
    versions = ', '.join(
        f'{package} {version}' for package, version in package_versions()
    )
    configs = sum(1 + len(case.others) for case in cases)
    numbered = [f'{i}. {text}' for i, text in enumerate(reasons, start=1)]
    with_options = [
        f'- `{case.name}`: `{json.dumps(case.options)}`'
        for case in cases
        if case.options
    ]
    with_others = [
        f'- `{case.name}`: {", ".join(f"`{name}`" for name in case.others)}'
        for case in cases
        if case.others
    ]
    return f"""# Supported models

Look up which MMAction2 models can be student, ViT teacher and CNN teacher, and
which feature map is used by default.

Every RGB recognition config of MMAction2, and TSN with 2-D backbones of other
packages, was tested in all three roles: one training step of
`DualTeacherDistiller`, with X3D-S and a small MViTv2 in the other roles. All
weights were random and the clips small. The table therefore shows which models
can be combined, not how well they learn. The seconds are the time of the step
at batch size {BATCH} on one machine; they are no benchmark.

A step succeeds if all losses are finite, the student's backbone gets a
gradient, and no teacher gets one. If the model is the student, `loss_sd` alone
must also reach the backbone.

- **model**: name of the config; "+n": n more configs have the same
  architecture (listed below).
- **tap**: module whose output is the feature map by default.
- **(C, T, H, W)**: shape of the feature map.
- **axes**: whether the map's axes are the clip's time, height and width. 1 is
  perfect locality, 0 is none, below -0.02 is a wrong order. It is measured
  with noise in the first and in the last part of each axis; the worst axis
  counts. nan: with random weights, noise changes nothing (MobileOne's deployed
  form).
- **embedding**: whether the embedding (the vector of `loss_rkd`) is the input
  of the head's first linear layer.
- **student, vit_teacher, cnn_teacher**: seconds of the step, or "no" and the
  number of the reason.

{served} of {tried} steps succeeded, for {len(cases)} models out of {configs}
configs. The table is the output of

    python {' '.join(sys.argv)}

with {versions}.

{os.linesep.join(table)}

## Reasons of failures

{os.linesep.join(numbered) or 'None.'}

## Not tested yet

{os.linesep.join(f'- `{name}`' for name in untried) or 'None.'}

## Options

`cfg_options` of the tested models: a smaller clip size for models that have it
in their constructor, or options that the stock config needs.

{os.linesep.join(with_options) or 'None.'}

## Configs of the same architecture

{os.linesep.join(with_others) or 'None.'}
"""


def package_versions() -> List[Tuple[str, str]]:
    """Returns the versions of the packages that the results depend on."""
    found = [('dtkd_mmaction', dtkd_mmaction.__version__)]
    for package in (
        'torch',
        'mmaction2',
        'mmengine',
        'mmcv',
        'mmcv-lite',
        'mmpretrain',
        'timm',
        'torchvision',
    ):
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--family', nargs='+', help='families to test; default: all'
    )
    parser.add_argument(
        '--role', nargs='+', choices=ROLES, default=list(ROLES)
    )
    parser.add_argument('--out', help='Markdown file to write the table to')
    parser.add_argument(
        '--json',
        help='file for all results; results that it already contains are not '
        'computed again, so an interrupted sweep can continue',
    )
    return parser.parse_args()


CASE_KEYS = {part.name for part in fields(Case)} - {'model'}


def write(args: argparse.Namespace, cases: List[Case]) -> None:
    """Writes the requested files with the results so far."""
    tried = [case for case in cases if case.seconds or case.reasons]
    if args.json:
        results = [
            {k: v for k, v in asdict(case).items() if k != 'model'}
            for case in tried
        ]
        lines = ',\n'.join(json.dumps(result) for result in results)
        write_text(args.json, f'[\n{lines}\n]\n')
    if args.out:
        untried = [case.name for case in cases if case not in tried]
        write_text(args.out, markdown(tried, args.role, untried))


def recall(path: Optional[str], cases: List[Case]) -> None:
    """Reads results of an earlier sweep from its JSON file."""
    if path is None or not osp.isfile(path):
        return
    earlier = {}
    for result in read_json(path, list):
        # A file of somebody else, or of an older version.
        if not isinstance(result, dict) or result.keys() != CASE_KEYS:
            raise SystemExit(
                f'--json: {path} holds {result!r:.80}, which is no result of '
                f'this tool: it needs the keys {sorted(CASE_KEYS)}. Name '
                'another file.'
            )
        earlier[result['name']] = result
    for case in cases:
        for name, value in earlier.get(case.name, {}).items():
            setattr(case, name, value)


def main() -> None:
    """Tests all cases and prints each result."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    families = [family_of(path) for path in shipped_configs()]
    families += [family_of(backbone) for backbone in OTHER_PACKAGES]
    families = list(dict.fromkeys(families))
    unknown = set(args.family or []) - set(families)
    if unknown:
        raise SystemExit(f'No family {sorted(unknown)}. Known: {families}')
    cases = [*shipped_cases(args.family), *more_cases(args.family)]
    cases.sort(key=lambda case: families.index(case.family))
    recall(args.json, cases)
    # One model of every family first, for an early overview.
    families = [case.family for case in cases]
    rank = [families[:i].count(family) for i, family in enumerate(families)]
    order = sorted(range(len(cases)), key=rank.__getitem__)

    with Progress(console=Console(soft_wrap=True)) as progress:
        bar = progress.add_task('', total=len(cases) * len(args.role))
        for case in (cases[i] for i in order):
            for role in args.role:
                if role in case.seconds or role in case.reasons:
                    progress.advance(bar)
                    continue
                progress.update(bar, description=f'{case.name} {role}')
                try:
                    try_role(case, role)
                    outcome = f'{case.seconds[role]} s'
                except Exception as error:
                    outcome = case.reasons[role] = first_line(error)
                gc.collect()
                progress.advance(bar)
                progress.console.print(
                    f'{case.family} | {case.name} | {role} | {case.tap} | '
                    f'{case.grid} | {case.alignment} | '
                    f'{case.embedding_matches} | {outcome}',
                    markup=False,
                    highlight=False,
                )
            write(args, cases)


if __name__ == '__main__':
    main()
