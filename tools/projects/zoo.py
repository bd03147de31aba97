"""The models that a project can name in short, and how to read a config."""

import difflib
import os.path as osp
from typing import Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config
from mmengine.hub import get_config

from dtkd_mmaction.recognizers.model_spec import (
    forget_pretraining,
    set_num_classes,
    stock_clip,
)

STUDENT, VIT, CNN = 'student', 'vit-teacher', 'cnn-teacher'


class Entry(NamedTuple):
    """A model.

    Attributes:
        config (str): Its stock config.
        frames (int): Frames of its clip.
        size (int): Height and width of its clip.
        roles (tuple[str]): What it can be in a project.
        fixed (bool): Whether frames and size are built in.
        weights (str): File that ``tools/data/pretrained_teachers.py`` makes.
            A model that has one is probed, not trained.
        few_frames (int): Frames for a student on a CPU.
    """

    config: str
    frames: int
    size: int
    roles: Tuple[str, ...] = (STUDENT, CNN)
    fixed: bool = False
    weights: str = ''
    few_frames: int = 8


STOCK = 'mmaction::recognition/'
OWN = 'dtkd_mmaction::'
ZOO: Dict[str, Entry] = {
    'x3d-s': Entry(
        f'{STOCK}x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py', 16, 160
    ),
    'x3d-m': Entry(
        f'{STOCK}x3d/x3d_m_16x5x1_facebook-kinetics400-rgb.py', 16, 224
    ),
    'movinet-a0': Entry(f'{OWN}_base_/models/movinet_a0.py', 16, 172),
    'movinet-a2': Entry(f'{OWN}_base_/models/movinet_a2.py', 16, 224),
    'slowfast-r50': Entry(
        f'{STOCK}slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
        32,
        224,
        few_frames=16,
    ),
    'slowonly-r50': Entry(
        f'{STOCK}slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py',
        8,
        224,
    ),
    'i3d-r50': Entry(
        f'{STOCK}i3d/'
        'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py',
        32,
        224,
    ),
    'r2plus1d-r34': Entry(
        f'{STOCK}r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py',
        8,
        224,
    ),
    'csn-r50': Entry(
        f'{STOCK}csn/ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_'
        'kinetics400-rgb.py',
        32,
        224,
    ),
    'c2d-r50': Entry(
        f'{STOCK}c2d/c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb.py',
        8,
        224,
    ),
    'tsm-mobilenetv2': Entry(
        f'{STOCK}tsm/tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_'
        'kinetics400-rgb.py',
        8,
        224,
    ),
    'tsm-r50': Entry(
        f'{STOCK}tsm/'
        'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py',
        8,
        224,
    ),
    'tsn-r50': Entry(
        f'{STOCK}tsn/'
        'tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py',
        8,
        224,
    ),
    'mvitv2-s': Entry(
        f'{STOCK}mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py',
        16,
        224,
        (VIT,),
        True,
    ),
    'videomae-b': Entry(
        f'{STOCK}videomae/vit-base-p16_videomae-k400-pre_16x4x1_'
        'kinetics-400.py',
        16,
        224,
        (VIT,),
        True,
    ),
    'uniformerv2-b': Entry(
        f'{STOCK}uniformerv2/uniformerv2-base-p16-res224_clip_8xb32-u8_'
        'kinetics400-rgb.py',
        8,
        224,
        (VIT,),
        True,
    ),
    'uniformer-s': Entry(
        f'{STOCK}uniformer/'
        'uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb.py',
        16,
        224,
        (VIT,),
        True,
    ),
    'swin-t': Entry(
        f'{STOCK}swin/'
        'swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py',
        32,
        224,
        (VIT,),
        True,
    ),
    'dinov2-s': Entry(
        f'{OWN}ucf6/dinov2_s.py', 4, 112, (VIT,), True, 'dinov2_s.pth'
    ),
    'efficientnet-lite0': Entry(
        f'{OWN}ucf6/efficientnet_lite0.py',
        4,
        112,
        (CNN,),
        True,
        'efficientnet_lite0.pth',
    ),
}
ALIASES = {
    'slowfast': 'slowfast-r50',
    'slowonly': 'slowonly-r50',
    'i3d': 'i3d-r50',
    'csn': 'csn-r50',
    'c2d': 'c2d-r50',
    'tsm': 'tsm-r50',
    'tsn': 'tsn-r50',
    'r2plus1d': 'r2plus1d-r34',
    'mvit': 'mvitv2-s',
    'mvitv2': 'mvitv2-s',
    'videomae': 'videomae-b',
    'uniformer': 'uniformer-s',
    'uniformerv2': 'uniformerv2-b',
    'swin': 'swin-t',
    'dinov2': 'dinov2-s',
    'efficientnet': 'efficientnet-lite0',
    'movinet': 'movinet-a0',
}


class Model(NamedTuple):
    """A model of a project.

    Attributes:
        name (str): Short name or config.
        model (dict): The recognizer, with the project's classes.
        frames (int): Frames of its clip.
        size (int): Height and width of its clip.
        load_from (str, optional): Pretrained weights: a URL or a path.
        probed (bool): Whether only its last layer is fitted.
    """

    name: str
    model: dict
    frames: int
    size: int
    load_from: Optional[str]
    probed: bool

    @property
    def is_2d(self) -> bool:
        """Whether it sees single frames."""
        return self.model['type'] == 'Recognizer2D'


def short_names(role: str) -> List[str]:
    """Returns the names that a role can have."""
    return [name for name, entry in ZOO.items() if role in entry.roles]


def find_entry(name: str, role: str) -> Optional[Entry]:
    """Returns the entry of a short name; None for a config.

    Args:
        name (str): Short name, path, or ``'mmaction::...'``.
        role (str): What the model is for; an option's name.

    Raises:
        ValueError: If it is neither, or cannot have the role.
    """
    key = name.lower().replace('_', '-')
    key = ALIASES.get(key, key)
    entry = ZOO.get(key)
    if entry is None and ('::' in name or osp.isfile(name)):
        return None
    if entry is None and name.endswith('.py'):
        raise ValueError(f'--{role} {name}: there is no such config.')
    names = short_names(role)
    if entry is None:
        near = difflib.get_close_matches(key, names, 1)
        hint = f' Did you mean {near[0]}?' if near else ''
        raise ValueError(
            f'--{role} {name}: no such model.{hint} Give a config, or one of '
            f'{", ".join(names)}.'
        )
    if role not in entry.roles:
        raise ValueError(
            f'--{role} {name}: this model cannot be the {role}. Choose one of '
            f'{", ".join(names)}, or give a config.'
        )
    return entry


def read_model(
    name: str,
    role: str,
    num_classes: int,
    frames: Optional[int] = None,
    size: Optional[int] = None,
    checkpoints: str = 'checkpoints',
) -> Model:
    """Reads a model and fits it to a project.

    Args:
        name (str): Short name or config.
        role (str): What the model is for; an option's name.
        num_classes (int): Classes of the project.
        frames (int, optional): Frames of its clip; those of its config.
        size (int, optional): Size of its clip; that of its config.
        checkpoints (str): Folder of the weights of probed models.

    Raises:
        ValueError: If the name, or the config, cannot be used.
    """
    entry = find_entry(name, role)
    source = entry.config if entry else name
    try:
        if '::' in source:
            # With the address of its weights, where MMAction2 names one.
            published = source.startswith(STOCK)
            config = get_config(source, pretrained=published)
        else:
            config = Config.fromfile(source)
    except Exception as error:  # whatever a file that is no config raises
        raise ValueError(
            f'--{role} {name}: it cannot be read as a config: {error}'
        ) from error
    if 'model' not in config or 'cls_head' not in config.model:
        raise ValueError(
            f'--{role} {name}: it has no recognizer under `model`. Give the '
            'config of one model, not of a distillation.'
        )
    clip = (
        dict(frames=entry.frames, size=entry.size)
        if entry
        else stock_clip(config)
    )
    fixed = bool(entry and entry.fixed)
    if frames and not fixed:
        clip['frames'] = frames
    if size and not fixed:
        clip['size'] = size
    load_from = config.get('model_path') or config.get('load_from')
    if entry and entry.weights:
        load_from = osp.join(checkpoints, entry.weights)
    forget_pretraining(config.model)
    set_num_classes(config.model, num_classes)
    model = config.model.to_dict()
    for part in (model['backbone'], model['cls_head']):
        if 'num_segments' in part:  # TSM
            part['num_segments'] = clip['frames']
    probed = bool(entry and entry.weights)
    return Model(name, model, clip['frames'], clip['size'], load_from, probed)
