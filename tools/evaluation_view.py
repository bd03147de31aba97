"""Writes a config that evaluates the student on the clips it trains on.

    python tools/evaluation_view.py CONFIG --out NEW_CONFIG.py
    python tools/evaluation_view.py CONFIG --out NEW_CONFIG.py --one-view

``model.student.view`` changes the clips in training, but not those in
validation and test: the pipelines of the data set are not changed, nor is the
config of the exported student. The new config inherits CONFIG and replaces the
pipelines of ``val_dataloader`` and ``test_dataloader``.
"""

import argparse
import os.path as osp

from mmengine.config import Config

import dtkd_mmaction  # noqa: F401  (the config's _base_ may name it)
from dtkd_mmaction.datasets.evaluation_pipeline import replace_pipelines
from dtkd_mmaction.files import write_text

LOADERS = ('val_dataloader', 'test_dataloader')


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='a distillation config')
    parser.add_argument('--out', required=True, help='the config to write')
    parser.add_argument(
        '--one-view',
        action='store_true',
        help='test one central clip per video, not several clips and crops',
    )
    return parser.parse_args()


def evaluation_config(config: Config, source: str, one_view: bool) -> str:
    """Returns the text of the new config.

    Args:
        config (Config): A distillation config.
        source (str): Its name in ``_base_`` of the new config.
        one_view (bool): Whether to test one clip per video.

    Raises:
        ValueError: If the student has no view, or a pipeline cannot be
            adapted.
    """
    view = (config.get('model') or {}).get('student', {}).get('view')
    if not view:
        raise ValueError(
            f'{source}: model.student.view is not set, so the student trains '
            'on the clips of train_pipeline as they are.'
        )
    sections = {}
    for name in LOADERS:
        if config.get(name) is None:
            continue
        loader = config[name].to_dict()
        try:
            replace_pipelines(
                loader['dataset'],
                view,
                one_view and name == 'test_dataloader',
            )
        except ValueError as error:
            raise ValueError(f'{source}: {name}.dataset: {error}') from error
        sections[name] = dict(_delete_=True, **loader)
    return f'_base_ = {source!r}\n\n{Config(sections).pretty_text}'


def main() -> None:
    """Runs the command."""
    args = parse_args()
    config = Config.fromfile(args.config)
    folder = osp.dirname(osp.abspath(args.out))
    source = osp.relpath(osp.abspath(args.config), folder)
    try:
        text = evaluation_config(config, source, args.one_view)
    except ValueError as error:
        raise SystemExit(f'evaluation_view.py: {error}') from error
    write_text(args.out, text)
    print(f'Wrote {args.out}: train and test with it instead of {args.config}')


if __name__ == '__main__':
    main()
