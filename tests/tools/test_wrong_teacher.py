"""A teacher that is sure and wrong keeps everything but its answers."""

import sys

import pytest
import torch
import wrong_teacher as tool
from tiny_models import batch, tiny_mvit, tiny_x3d

from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config


@pytest.mark.parametrize('model', [tiny_x3d, tiny_mvit])
def test_every_answer_moves_to_the_next_class(model):
    torch.manual_seed(0)
    recognizer = build_recognizer(load_config(dict(cfg=model()), 'm'), 'm')
    recognizer.eval()

    def scores():
        samples = recognizer.test_step(batch(pixels=32))
        return torch.stack([s.pred_score for s in samples])

    before = scores()
    state = recognizer.state_dict()
    wrong = tool.exchange_classes(state)
    changed = {k for k, v in wrong.items() if not torch.equal(v, state[k])}
    assert changed <= set(tool.class_rows(state))
    recognizer.load_state_dict(wrong)
    assert torch.allclose(scores(), before.roll(1, dims=1), atol=1e-6)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['wrong_teacher.py', *arguments])
    tool.main()


def test_writes_a_stock_checkpoint(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = build_recognizer(load_config(dict(cfg=tiny_x3d()), 'm'), 'm')
    source, out = str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')
    torch.save(dict(state_dict=model.state_dict()), source)
    run(monkeypatch, source, '--out', out)
    assert 'cls_head.fc2.weight' in capsys.readouterr().out
    wrong = torch.load(out)['state_dict']
    model.load_state_dict(wrong, strict=True)
    with pytest.raises(SystemExit, match='--out: .* exists already'):
        run(monkeypatch, source, '--out', out)


def test_what_is_no_checkpoint_of_a_recognizer(tmp_path, monkeypatch):
    source, out = str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')
    torch.save(dict(state_dict={'backbone.x': torch.ones(2)}), source)
    with pytest.raises(SystemExit, match="no key begins with 'cls_head.'"):
        run(monkeypatch, source, '--out', out)
    with pytest.raises(SystemExit, match='missing.pth'):
        run(monkeypatch, str(tmp_path / 'missing.pth'), '--out', out)
