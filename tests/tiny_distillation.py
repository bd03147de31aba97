"""A distillation config of tiny models on clips of noise, as files."""

import importlib.util
import os.path as osp
import sys

import torch
from mmengine.config import Config
from noise_clips import noise_pipeline, write_clips
from tiny_models import FRAMES, tiny_distiller, tiny_mvit, tiny_x3d

from dtkd_mmaction.recognizers.model_spec import build_recognizer

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
SIZE = 48  # of the shared clip; student and ViT see 32


def load_tool(name):
    """A script of ``tools/analysis`` as a module."""
    spec = importlib.util.spec_from_file_location(
        name, osp.join(ROOT, f'tools/analysis/{name}.py')
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(tool, monkeypatch, *arguments):
    """Its command line."""
    argv = [tool.__name__, *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', argv)
    tool.main()


def lively(model_config, seed):
    """A stock model whose random weights tell clips apart."""
    model = build_recognizer(Config(dict(model=model_config)), 'model')
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


def write_distillation(folder, name='dtkd.py', **model):
    """Clips, two teachers, a config; ``model`` changes its model."""
    if not osp.isfile(folder / 'train.txt'):
        write_clips(folder, dict(train=3, val=8))
        for teacher, cfg in (('vit', tiny_mvit()), ('cnn', tiny_x3d(16))):
            state = lively(cfg, seed=1).state_dict()
            torch.save(dict(state_dict=state), folder / f'{teacher}.pth')
    distiller = tiny_distiller()
    for teacher in ('vit', 'cnn'):
        path = str(folder / f'{teacher}.pth')
        distiller[f'{teacher}_teacher']['checkpoint'] = path
    dataset = dict(type='CheckedVideoDataset')
    dataset['data_prefix'] = dict(video=str(folder))
    pipeline = noise_pipeline(FRAMES, SIZE)
    config = Config(
        dict(
            default_scope='mmaction',
            custom_imports=dict(imports=['dtkd_mmaction']),
            model=dict(distiller, **model),
            train_dataloader=dict(
                dataset=dict(
                    type='KeyedViewDataset',
                    dataset=dict(
                        dataset,
                        ann_file=str(folder / 'train.txt'),
                        pipeline=pipeline,
                    ),
                )
            ),
            val_dataloader=dict(
                dataset=dict(
                    dataset,
                    ann_file=str(folder / 'val.txt'),
                    pipeline=[],  # the tools do not read it
                )
            ),
        )
    )
    config.dump(folder / name)
    return str(folder / name)
