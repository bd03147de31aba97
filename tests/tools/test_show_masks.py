"""The masks in the picture are those of the loss."""

import numpy as np
import pytest
import torch
from inspection import build_distiller
from mmengine.config import Config
from tiny_distillation import load_tool, run_tool, write_distillation

from dtkd_mmaction.losses.structure_discrepancy import (
    StructureDiscrepancyLoss,
    activation_score,
)
from dtkd_mmaction.modules.grid import resize_grid

tool = load_tool('show_masks')
# A common grid of 4 x 4: the tiny X3D's last map has one position.
WIDE = dict(tap='backbone.layer2')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('masks')
    path = write_distillation(root)
    config = Config.fromfile(path)
    for model in ('student', 'cnn_teacher'):
        config.model[model].update(WIDE)
    config.dump(path)
    return root


@pytest.fixture
def path(folder):
    return str(folder / 'dtkd.py')


def look(path, options=None, index=0):
    config, distiller = build_distiller(path, options)
    batch, _ = tool.read_clip(config, index, None)
    return distiller, batch, tool.look(distiller, dict(batch))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'model.loss_sd.zeta': 0.8, 'model.loss_sd.quantile_scope': 'frame'},
        {'model.loss_sd.mask_combine': 'or'},
        {
            'model.loss_sd.res_score': 'elementwise',
            'model.loss_sd.feat_norm': 'none',
        },
    ],
)
def test_is_what_a_training_step_compares(path, options, monkeypatch):
    options = {'model.loss_sd': dict(loss_weight=1.0), **options}
    compared = {}

    def compare(self, predicted, target, labels=None):
        compared.update(
            predicted=predicted, residual=target.residual, mask=target.mask
        )
        return target.residual.sum() * 0

    monkeypatch.setattr(StructureDiscrepancyLoss, 'compare', compare)
    distiller, batch, picture = look(path, options)
    batch = distiller.data_preprocessor(batch, training=True)
    distiller(**batch, mode='loss')

    kept = compared['mask'][0].float().mean(0)
    assert torch.equal(picture.masks['kept'], kept)
    assert 0 < kept.mean() < 1
    norm = compared['residual'][0].norm(dim=0)
    assert norm.shape[1:] == (4, 4)
    assert picture.residual.shape == norm.shape
    torch.testing.assert_close(picture.residual, norm)
    predicted = resize_grid(compared['predicted'], norm.shape)[0].norm(dim=0)
    torch.testing.assert_close(picture.predicted, predicted)


def test_the_two_masks_meet_in_what_is_kept(path):
    distiller, batch, picture = look(path)
    residual, active = (picture.masks[n].bool() for n in ('M_res', 'M_act'))
    assert torch.equal(picture.masks['kept'].bool(), residual & active)
    # by hand: above the median of its own map, over the clip
    assert torch.equal(residual, picture.residual > picture.residual.median())
    clips = distiller.data_preprocessor(batch)['inputs']
    f_cnn = distiller.teachers['cnn'](clips).map
    score = activation_score(resize_grid(f_cnn, residual.shape), 'mean')[0, 0]
    threshold = np.quantile(score.numpy().astype(np.float64), 0.5)
    assert torch.equal(active, score > threshold)


def test_each_column_shows_the_middle_of_its_time():
    clip = torch.arange(8.0).reshape(1, 8, 1, 1).expand(3, 8, 2, 2)
    frames = tool.frames_of_grid(clip, 4)
    assert frames.shape == (4, 2, 2, 3)
    assert frames[:, 0, 0, 0].tolist() == [1, 3, 5, 7]
    assert tool.frames_of_grid(clip, 8)[:, 0, 0, 0].tolist() == list(range(8))


@pytest.mark.parametrize('with_prediction', [False, True])
def test_the_picture_holds_these_numbers(path, with_prediction):
    _, _, picture = look(path)
    figure = tool.draw(picture, 'a clip', with_prediction)
    axes = [a for a in figure.axes if a.get_label() != '<colorbar>']
    columns = len(picture.frames)
    rows = [axes[i : i + columns] for i in range(0, len(axes), columns)]
    names = [row[0].get_ylabel().split('\n')[0] for row in rows]
    shown = ['predicted'] if with_prediction else []
    assert names == ['frame', 'residual', *shown, 'M_res', 'M_act', 'kept']
    for t in range(columns):
        values = rows[1][t].images[0].get_array()
        assert np.allclose(values, picture.residual[t])
        for row, name in zip(rows[-3:], ('M_res', 'M_act', 'kept')):
            mask = picture.masks[name]
            overlay = row[t].images[1]
            assert np.array_equal(overlay.get_alpha() > 0, mask[t] > 0)
            assert row[t].get_title() == f'{mask[t].mean():.0%}'
            assert f'{mask.mean():.1%}' in row[0].get_ylabel()
    (bar,) = (a for a in figure.axes if a.get_label() == '<colorbar>')
    assert bar.get_ylabel() == 'size (l2)'
    scales = {row[0].images[0].get_clim() for row in rows[1 : 2 + len(shown)]}
    assert len(scales) == 1  # a prediction on the residual's own scale
    tool.plt.close(figure)


class TestCommand:
    def test_by_index_and_by_file(self, folder, path, monkeypatch, capsys):
        printed = []
        for clip in (['--index', 1], ['--clip', folder / 'train_1.mp4']):
            torch.manual_seed(0)  # the student has no checkpoint
            run_tool(tool, monkeypatch, path, *clip, '--out', folder / 'm.png')
            printed.append(capsys.readouterr().out.splitlines()[-1])
        assert printed[0] == printed[1]
        assert 'train_1.mp4, M_res 50.0%' in printed[0]
        image = tool.plt.imread(folder / 'm.png')
        assert image.std() > 0.05

    def test_a_checkpoint_brings_its_prediction(
        self, folder, path, monkeypatch
    ):
        _, distiller = build_distiller(path)
        for parameter in distiller.branch.parameters():
            torch.nn.init.constant_(parameter, 0.5)
        state = dict(state_dict=distiller.state_dict())
        torch.save(state, folder / 'run.pth')
        drawn = []
        draw = tool.draw
        monkeypatch.setattr(
            tool,
            'draw',
            lambda *args: drawn.append(args) or draw(*args),
        )
        command = [path, '--out', folder / 'm.png']
        run_tool(tool, monkeypatch, *command)
        command += ['--checkpoint', folder / 'run.pth']
        run_tool(tool, monkeypatch, *command)
        (before, _, without), (after, _, with_it) = drawn
        assert (without, with_it) == (False, True)
        # teachers and a fixed phi: the run does not change the residual
        assert torch.equal(before.residual, after.residual)
        assert not torch.allclose(before.predicted, after.predicted)

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (['--cfg-options', 'model.loss_sd=None'], 'no loss_sd'),
            (
                ['--cfg-options', 'model.preset=paper_literal'],
                "phi='learnable'.* give --checkpoint",
            ),
            (['--index', '3'], 'the training list has 3 clips'),
            (['--clip', 'none.mp4'], 'no such file'),
            (['--clip', __file__], '--clip .*cannot open'),
            (['--out', f'{__file__}/m.png'], 'test_show_masks.py'),
            (['--checkpoint', 'STUDENT'], 'does not fit the config'),
        ],
    )
    def test_refusals(self, folder, path, monkeypatch, arguments, message):
        if 'STUDENT' in arguments:
            _, distiller = build_distiller(path)
            state = distiller.student.state_dict()
            torch.save(dict(state_dict=state), folder / 'student.pth')
            arguments = ['--checkpoint', folder / 'student.pth']
        with pytest.raises(SystemExit, match=message):
            run_tool(tool, monkeypatch, path, *arguments)
