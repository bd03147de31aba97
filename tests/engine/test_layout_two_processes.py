"""Two processes in channels-last have the gradients of the stock layout."""

import pytest
import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noise_clips import noise_run, write_clips
from tiny_models import tiny_x3d
from two_processes import join, start_ranks

CLIPS = 4  # of all processes together: one step an epoch


@HOOKS.register_module()
class RecordGradientsHook(Hook):
    """Writes the gradients of every optimizer step to a file."""

    def __init__(self, path):
        self.path = path
        self.steps = []

    def before_train(self, runner):
        def record(optimizer, *_):
            self.steps.append(
                {
                    name: p.grad.clone()
                    for name, p in runner.model.named_parameters()
                    if p.grad is not None
                }
            )

        runner.optim_wrapper.optimizer.register_step_pre_hook(record)

    def after_train(self, runner):
        torch.save(self.steps, f'{self.path}.{runner.rank}')


def depthwise():
    """X3D with fixed BatchNorm statistics: a batch may be split."""
    model = tiny_x3d()
    model['backbone']['norm_eval'] = True
    return model


def dense():
    """ResNet3d-18 with fixed BatchNorm statistics."""
    model = tiny_x3d()
    model['backbone'] = dict(
        type='ResNet3d',
        depth=18,
        pretrained=None,
        base_channels=4,
        norm_eval=True,
        zero_init_residual=False,
    )
    model['cls_head'].update(type='I3DHead', in_channels=32)
    return model


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('layout')
    write_clips(root, dict(train=CLIPS, val=1))
    return root


def gradients(root, name, model, layout, ranks=2, **options):
    """Gradients of each step, of one rank or equal on both."""
    config = Config(
        dict(
            model=model,
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=1),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.02, momentum=0.9)
            ),
            default_hooks=dict(
                checkpoint=dict(type='AtomicCheckpointHook', interval=1)
            ),
            custom_hooks=[
                dict(type='FastStudentHook', layout=layout),
                dict(
                    type='RecordGradientsHook',
                    path=str(root / f'{name}.pt'),
                    priority='LOWEST',
                ),
            ],
            randomness=dict(seed=1, deterministic=True),
            launcher='pytorch' if ranks > 1 else 'none',
            work_dir=str(root / name),
            **noise_run(root, 8, 32),
        ),
        format_python_code=False,  # takes as long as the training
    )
    for part in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config.pop(part)
    config.train_dataloader.batch_size = CLIPS // ranks
    config.merge_from_dict(options)
    log = str(root / f'{name}.log')
    codes = join(
        start_ranks(lambda: Runner.from_cfg(config).train(), (), ranks, log)
    )
    assert codes == [0] * ranks, open(f'{log}.0').read()
    steps = [torch.load(root / f'{name}.pt.{rank}') for rank in range(ranks)]
    for other in steps[1:]:
        assert_close(other, steps[0], 0, '')
    return steps[0]


def assert_close(ours, theirs, tolerance, prefix='module.'):
    """The same gradients, up to rounding."""
    assert len(ours) == len(theirs) > 0
    for our, their in zip(ours, theirs):
        assert len(our) == len(their) > 0
        for name, value in our.items():
            expected = their[name.replace(prefix, '', 1)]
            distance = (value - expected).norm()
            assert distance <= tolerance * expected.norm(), name


@pytest.mark.parametrize('model, unused', [(depthwise, False), (dense, True)])
def test_gradients_of_two_processes(folder, model, unused):
    """In the first step, in later ones, and in the first after a resume."""
    name = f'{model.__name__}_{unused}'
    options = {'train_cfg.max_epochs': 2, 'find_unused_parameters': unused}
    whole = gradients(
        folder, f'{name}_whole', model(), 'stock', ranks=1, **options
    )
    stock = gradients(folder, f'{name}_stock', model(), 'stock', **options)
    ours = gradients(
        folder, f'{name}_last', model(), 'channels_last', **options
    )
    assert_close(ours, stock, 1e-3, '')
    assert_close(ours, whole, 1e-3)

    resumed = gradients(
        folder,
        f'{name}_resumed',
        model(),
        'channels_last',
        resume=True,
        load_from=str(folder / f'{name}_last' / 'epoch_1.pth'),
        **options,
    )
    assert_close(resumed, ours[1:], 0, '')
