"""Writes the config of a compared method for a pair of student and teachers.

The pair is a config of ``DualTeacherDistiller``: ``configs/dtkd/*.py``, or
your own. The method distils from its ViT teacher into its student, with the
same data and schedule. ``configs/baselines`` contains the pairs and methods of
the paper's tables; this command writes all others.

A method over several teachers (``ebkd``, ``aekd``, ...) replaces the loss on
the logits of all teachers and switches L_SD and L_RKD off. It also takes a
config of ``MultiTeacherDistiller``.

Example::

    python tools/compose_config.py dtkd/slowfast_r50_hmdb51.py kd
    mim train dtkd_mmaction slowfast_r50_hmdb51_kd.py
"""

import argparse
import os.path as osp
import warnings
from glob import escape, glob
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config

from dtkd_mmaction.files import write_text

PACKAGE = 'dtkd_mmaction'
CONFIGS = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'configs')
LOSSES = '_base_/losses'
# Losses over several teachers.
FUSIONS = '_base_/fusion'
# Kind of distiller -> config key of its loss over several teachers.
FUSION_KEYS = dict(
    DualTeacherDistiller='loss_sr', MultiTeacherDistiller='fusion_loss'
)

TEXT = """\
_base_ = {bases}

model = dict(
    _delete_=True,
    type='{type}',
{arguments})
"""
FUSION_TEXT = """\
_base_ = {base!r}

model = dict(
{arguments})
"""
FROM_PAIR = '    {argument}={{{{_base_.model.{key}}}}},\n'
ASSISTANT = """\
    # The student that configs/baselines/takd_assistant_hmdb51.py exports.
    # Another data set needs an assistant of its own.
    teacher=dict(
        cfg='mmaction::recognition/r2plus1d/'
        'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb.py',
        checkpoint='work_dirs/takd_assistant_hmdb51/student_best_*.pth',
        view={{_base_.model.vit_teacher.view}},
    ),
"""
# Methods that are not a loss in _base_/losses.
DISTILLERS = {'dml': 'MutualLearningDistiller', 'simkd': 'SimKDDistiller'}
TAKD = 'takd'  # KD from another teacher
# Further arguments of a method's distiller.
ARGUMENTS = {'cakd': "    student_transform=dict(type='ClipCorruption'),\n"}


def known_methods() -> List[str]:
    """Returns the names of all methods."""
    return sorted(
        [*config_names(LOSSES), *config_names(FUSIONS), *DISTILLERS, TAKD]
    )


def config_names(folder: str) -> List[str]:
    """Returns the names of the configs in a folder below ``configs``."""
    paths = glob(osp.join(escape(CONFIGS), folder, '*.py'))
    return sorted(osp.splitext(osp.basename(path))[0] for path in paths)


def compose(pair: str, method: str, portable: bool = False) -> str:
    """Returns the text of the config of a method.

    Args:
        pair (str): File of the pair's config.
        method (str): One of :func:`known_methods`.
        portable (bool): Name the configs of this repository
            ``'dtkd_mmaction::...'`` instead of by their files. Defaults to
            False.

    Raises:
        ValueError: If there is no such method, or the config is no pair.
    """
    if method not in known_methods():
        raise ValueError(
            f'method={method!r}: expected one of {known_methods()}.'
        )
    model = Config.fromfile(pair).get('model') or {}
    if method in config_names(FUSIONS):
        base = osp.abspath(pair)
        try:
            changes = fusion_changes(model, method)
        except ValueError as error:
            raise ValueError(f'{pair}: {error}') from error
        return FUSION_TEXT.format(
            base=portable_name(base) if portable else base,
            arguments=''.join(f'    {k}={v!r},\n' for k, v in changes.items()),
        )
    if model.get('type') != 'DualTeacherDistiller':
        raise ValueError(
            f'{pair}: model.type is {model.get("type")!r}. Expected a config '
            'of DualTeacherDistiller, such as configs/dtkd/x3d_s_hmdb51.py.'
        )
    bases = [osp.abspath(pair)]
    arguments = ''
    if 'num_classes' in model:
        arguments += from_pair('num_classes')
    arguments += from_pair('student')
    if method == 'dml':
        arguments += from_pair('student', 'peer')
    elif method == TAKD:
        arguments += ASSISTANT
    else:
        arguments += from_pair('vit_teacher', 'teacher')
    if method not in DISTILLERS:
        loss = 'kd' if method == TAKD else method
        bases.append(osp.join(CONFIGS, LOSSES, f'{loss}.py'))
        arguments += '    losses={{_base_.losses}},\n'
    arguments += ARGUMENTS.get(method, '')
    if portable:
        bases = [portable_name(path) for path in bases]
    lines = ''.join(f'    {base!r},\n' for base in bases)
    return TEXT.format(
        bases=f'[\n{lines}]',
        type=DISTILLERS.get(method, 'SingleTeacherDistiller'),
        arguments=arguments,
    )


def fusion_changes(model: dict, method: str) -> Dict[str, Any]:
    """Returns what a loss over several teachers changes in a model.

    Args:
        model (dict): A distiller with several teachers.
        method (str): Name of a config in ``configs/_base_/fusion``.

    Raises:
        ValueError: If the model has no such loss.
    """
    kind = model.get('type')
    if kind not in FUSION_KEYS:
        raise ValueError(
            f'model.type is {kind!r}. Expected a config of one of '
            f'{list(FUSION_KEYS)} for a method over several teachers.'
        )
    key = FUSION_KEYS[kind]
    path = osp.join(CONFIGS, FUSIONS, f'{method}.py')
    options = dict(Config.fromfile(path).fusion_loss)
    if model.get(key):  # its options are those of another loss
        options = dict(_delete_=True, **options)
    changes: Dict[str, Any] = {key: options}
    if key == 'loss_sr':
        changes.update(loss_sd=None, loss_rkd=None)
    return changes


def from_pair(key: str, argument: Optional[str] = None) -> str:
    """Returns the line of an argument that the pair's model gives."""
    return FROM_PAIR.format(key=key, argument=argument or key)


def portable_name(path: str) -> str:
    """Returns the portable name of a config in ``_base_``."""
    name = osp.relpath(osp.realpath(path), osp.realpath(CONFIGS))
    if name.startswith(osp.pardir):
        return path
    return f'{PACKAGE}::{name}'


def find_pair(name: str) -> str:
    """Returns the file of a pair's config.

    Args:
        name (str): A file, or a name below ``configs``.

    Raises:
        SystemExit: If neither exists.
    """
    for path in (name, osp.join(CONFIGS, name)):
        if osp.isfile(path):
            return path
    raise SystemExit(
        f'PAIR: neither {name} nor {osp.join(CONFIGS, name)} is a file. '
        'Expected a config such as dtkd/x3d_s_hmdb51.py, or your own.'
    )


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Writes a config and prints how to train it."""
    import dtkd_mmaction  # noqa: F401  (a pair may inherit its configs)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'pair', help='config of DualTeacherDistiller: dtkd/x3d_s_hmdb51.py'
    )
    parser.add_argument('method', help=', '.join(known_methods()))
    parser.add_argument(
        '--out', help='file to write; default: <pair>_<method>.py'
    )
    args = parser.parse_args(argv)
    pair = find_pair(args.pair)
    stem = osp.splitext(osp.basename(pair))[0]
    out = args.out or f'{stem}_{args.method}.py'
    if osp.exists(out):
        raise SystemExit(
            f'--out: {out} exists already. Remove it, or name another file.'
        )
    try:
        text = compose(pair, args.method, portable=True)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    write_text(out, f'# {args.method} on the pair of {stem}.\n{text}')
    print(f'{out} is written. To train it: mim train {PACKAGE} {out}')


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    main()
