"""The gradients are those of a training step, with the losses' weights."""

import pytest
import torch
from inspection import build_distiller
from mmengine.config import Config
from tiny_distillation import load_tool, run_tool, write_distillation

tool = load_tool('loss_balance')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('balance')
    config = Config.fromfile(write_distillation(root))
    config.train_dataloader.update(
        batch_size=3,
        num_workers=0,
        sampler=dict(type='KeyedViewSampler', shuffle=True),
    )
    config.dump(root / 'dtkd.py')
    return root


def built(folder, options):
    torch.manual_seed(0)
    config, distiller = build_distiller(str(folder / 'dtkd.py'), options)
    distiller.init_weights()
    distiller.trust, distiller.max_gradient_ratio = None, 0
    loader = tool.Runner.build_dataloader(config.train_dataloader, 0)
    return distiller.train(), next(iter(loader))


def test_is_the_gradient_of_the_step(folder):
    """For one loss, the gradient equals that of ``backward``."""
    options = {'model.loss_sd': None, 'model.loss_rkd': None}
    distiller, batch = built(folder, options)
    measured = tool.measure(distiller, batch)
    assert set(measured) == {'loss_cls', 'loss_sr'}
    data = distiller.data_preprocessor(batch, training=True)
    distiller(**data, mode='loss')['loss_sr'].backward()
    norm = torch.stack(
        [p.grad.norm() for p in distiller.student.parameters()]
    ).norm()
    torch.testing.assert_close(measured['loss_sr'][1], norm)
    label_loss = measured['loss_cls']
    torch.testing.assert_close(label_loss[2:], torch.ones(2))
    ratio = measured['loss_sr'][1] / label_loss[1]
    torch.testing.assert_close(measured['loss_sr'][2], ratio)


def test_a_weight_counts(folder):
    figures = []
    for weight in (1.0, 10.0):
        options = {'model.loss_rkd': dict(loss_weight=weight)}
        distiller, batch = built(folder, options)
        figures.append(tool.measure(distiller, batch)['loss_rkd'])
    torch.testing.assert_close(figures[0][:3] * 10, figures[1][:3])
    torch.testing.assert_close(figures[0][3], figures[1][3])


def test_command_line(folder, monkeypatch, capsys):
    config = folder / 'dtkd.py'
    run_tool(tool, monkeypatch, config, '--batches', 2)
    printed = capsys.readouterr().out
    for name in ('loss_cls', 'loss_sr', 'loss_sd', 'loss_rkd'):
        assert name in printed
    with pytest.raises(SystemExit, match='at least 1'):
        run_tool(tool, monkeypatch, config, '--batches', 0)


def test_takes_a_checkpoint_of_the_run(folder, monkeypatch, capsys):
    config = folder / 'dtkd.py'
    _, distiller = build_distiller(str(config))
    distiller.init_weights()
    state = distiller.state_dict()
    torch.save(dict(state_dict=state), folder / 'epoch_1.pth')
    checkpoint = ('--checkpoint', folder / 'epoch_1.pth', '--batches', 1)
    run_tool(tool, monkeypatch, config, *checkpoint)
    assert 'loss_rkd' in capsys.readouterr().out
    state.pop(next(name for name in state if name.startswith('student.')))
    torch.save(dict(state_dict=state), folder / 'epoch_1.pth')
    with pytest.raises(SystemExit, match='does not fit'):
        run_tool(tool, monkeypatch, config, *checkpoint)
