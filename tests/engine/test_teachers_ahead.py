"""Teachers that are asked one batch ahead."""

import pytest
import torch
from mmengine.runner import Runner
from test_exact_resume import config, folder  # noqa: F401
from tiny_models import tiny_mvit, tiny_x3d


def runner(folder, name, **options):  # noqa: F811
    cfg = config(folder)
    cfg.model.student.cfg.data_preprocessor.pop('blending')
    cfg.model.teacher_mode = 'eval'
    cfg.work_dir = str(folder / name)
    cfg.experiment_name = name
    cfg.merge_from_dict(options)
    return Runner.from_cfg(cfg)


def train(folder, name, **options):  # noqa: F811
    run = runner(folder, name, **options)
    asked, steps = [], []
    model = run.model
    run_teachers, loss = model.run_teachers, model.loss

    def note_asked(clips):
        asked.append((float(clips.float().sum()), len(steps)))
        return run_teachers(clips)

    def note_step(inputs, data_samples):
        steps.append(float(inputs.float().sum()))
        return loss(inputs, data_samples)

    model.run_teachers, model.loss = note_asked, note_step
    run.train()
    del model.run_teachers, model.loss
    return model.state_dict(), asked, steps


def test_same_weights_and_a_batch_ahead(folder):  # noqa: F811
    plain, asked, steps = train(folder, 'plain')
    assert asked == [(clips, i + 1) for i, clips in enumerate(steps)]
    ahead, asked, steps_ahead = train(
        folder, 'ahead', **{'train_cfg.teachers_ahead': True}
    )
    assert steps_ahead == steps
    assert [clips for clips, _ in asked] == steps
    # Of three batches an epoch: the first two at once, then one a step.
    assert [done for _, done in asked] == [0, 0, 1, 3, 3, 4, 6, 6, 7]
    assert plain.keys() == ahead.keys()
    for name, value in plain.items():
        assert torch.equal(value, ahead[name]), name


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(teacher_mode='bn_eval_only'), 'random numbers'),
        (
            dict(
                type='MutualLearningDistiller',
                student=dict(cfg=tiny_x3d()),
                peer=dict(cfg=tiny_mvit()),
                _delete_=True,
            ),
            'no teachers',
        ),
    ],
)
def test_refused(folder, change, said):  # noqa: F811
    options = {'train_cfg.teachers_ahead': True}
    if change.pop('_delete_', False):
        options['model'] = dict(change, _delete_=True)
    else:
        options.update({f'model.{k}': v for k, v in change.items()})
    run = runner(folder, said.replace(' ', '_'), **options)
    with pytest.raises(ValueError, match=said):
        run.train()


def test_mixup_is_refused(folder):  # noqa: F811
    cfg = config(folder)
    cfg.model.teacher_mode = 'eval'
    cfg.train_cfg.teachers_ahead = True
    cfg.work_dir = str(folder / 'mixup')
    with pytest.raises(ValueError, match='mixup or CutMix'):
        Runner.from_cfg(cfg).train()
