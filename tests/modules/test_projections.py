import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.modules import TeacherProjections
from dtkd_mmaction.modules.projections import orthogonal_matrix, project

CHANNELS = dict(student=8, vit=12, cnn=6)


def maps(vit=12, cnn=6, batch=4, seed=0):
    torch.manual_seed(seed)
    return (
        torch.randn(batch, vit, 2, 3, 3),
        torch.randn(batch, cnn, 2, 3, 3),
    )


class TestOrthogonalMatrix:
    @pytest.mark.parametrize('rows, columns', [(4, 9), (9, 4), (5, 5)])
    def test_semi_orthogonal_with_rows_of_unit_length_on_average(
        self, rows, columns
    ):
        matrix = orthogonal_matrix(rows, columns, seed=3)
        small = min(rows, columns)
        gram = matrix @ matrix.t() if rows < columns else matrix.t() @ matrix
        gram = gram * min(1, columns / rows)
        assert torch.allclose(gram, torch.eye(small), atol=1e-5)
        assert float(matrix.square().sum()) == pytest.approx(rows, rel=1e-5)

    @pytest.mark.parametrize('rows, columns', [(432, 768), (2048, 768)])
    def test_unit_variance_stays_unit_variance(self, rows, columns):
        """X3D and SlowFast students of an MViTv2: both maps of Eq. 8 keep
        the scale that they were standardised to."""
        torch.manual_seed(0)
        out = orthogonal_matrix(rows, columns, 0) @ torch.randn(columns, 200)
        assert float(out.var()) == pytest.approx(1.0, abs=0.03)

    def test_seeded(self):
        matrix = orthogonal_matrix(4, 9, seed=3)
        torch.manual_seed(99)  # not the global generator
        assert torch.equal(matrix, orthogonal_matrix(4, 9, seed=3))
        assert not torch.equal(matrix, orthogonal_matrix(4, 9, seed=4))

    def test_signs_do_not_depend_on_the_library(self):
        """The one QR whose triangle has a positive diagonal."""
        generator = torch.Generator().manual_seed(3)
        drawn = torch.randn(9, 4, generator=generator)
        orthonormal = orthogonal_matrix(4, 9, seed=3).t()
        triangle = orthonormal.t() @ drawn
        assert (triangle.diagonal() > 0).all()
        assert torch.allclose(triangle.tril(-1), torch.zeros(4, 4), atol=1e-5)


def test_project_is_a_product_at_every_position():
    x, _ = maps()
    matrix = torch.randn(5, 12)
    expected = torch.einsum('oc,bcthw->bothw', matrix, x)
    assert torch.allclose(project(x, matrix), expected, atol=1e-5)


class TestFrozen:
    def test_has_nothing_to_train_or_to_save(self):
        projections = TeacherProjections()
        first = projections(*maps(), 8)
        assert not projections.state_dict()
        assert not list(projections.parameters())
        second = TeacherProjections()(*maps(), 8)
        for a, b in zip(first, second):
            assert a.shape == (4, 8, 2, 3, 3) and torch.equal(a, b)

    def test_is_standardise_then_the_seeded_matrix(self):
        f_vit, f_cnn = maps()
        projections = TeacherProjections(seed=5)
        vit, cnn = projections(f_vit, f_cnn, 8)
        for out, x, teacher, seed in (
            (vit, f_vit, 'vit', 5),
            (cnn, f_cnn, 'cnn', 6),
        ):
            matrix = orthogonal_matrix(8, x.shape[1], seed)
            expected = project(projections.normalise(x, teacher), matrix)
            assert torch.allclose(out, expected, atol=1e-6)

    def test_follows_width_and_type(self):
        projections = TeacherProjections()
        f_vit, f_cnn = maps()
        for width in (8, 20):
            out, _ = projections(f_vit, f_cnn, width)
            assert out.shape[1] == width
        out, _ = projections(f_vit.double(), f_cnn.double(), 8)
        assert out.dtype == torch.float64
        single, _ = projections(f_vit, f_cnn, 8)
        assert torch.allclose(out.float(), single, atol=1e-5)

    @pytest.mark.parametrize('mode', ['frozen_orthogonal', 'identity'])
    def test_identity_where_widths_agree(self, mode):
        x, _ = maps(vit=8)
        out, _ = TeacherProjections(mode, norm='none')(x, x, 8)
        assert out is x

    def test_identity_refuses_other_widths(self):
        with pytest.raises(ValueError, match='cnn teacher.*6 channels.*8'):
            TeacherProjections('identity')(*maps(vit=8), 8)


class TestNorms:
    def test_layernorm_is_over_channels_of_each_position(self):
        x = 5 + 3 * maps()[0]
        out = TeacherProjections().normalise(x, 'vit')
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        expected = centred / (variance + 1e-5).sqrt()
        assert torch.allclose(out, expected, atol=1e-5)

    def test_none_leaves_the_map_alone(self):
        x, _ = maps()
        assert TeacherProjections(norm='none').normalise(x, 'vit') is x

    def test_running_std_follows_the_channels(self):
        torch.manual_seed(0)
        projections = TeacherProjections(
            'identity', 'running_std', channels=CHANNELS
        )
        scale = torch.arange(1.0, 13).view(1, 12, 1, 1, 1)
        for _ in range(100):
            x = scale * (1 + torch.randn(4, 12, 2, 4, 4))
            out = projections.normalise(x, 'vit')
        assert torch.allclose(
            out.std(dim=(0, 2, 3, 4)), torch.ones(12), atol=0.3
        )
        assert out.mean().abs() < 0.2
        assert projections.state_dict()  # kept over a restart

    def test_running_std_stands_still_in_eval(self):
        projections = TeacherProjections(
            'identity', 'running_std', channels=CHANNELS
        )
        x, _ = maps()
        projections.normalise(x, 'vit')
        before = projections.vit_norm.running_var.clone()
        projections.eval()
        first = projections.normalise(x, 'vit')
        assert torch.equal(before, projections.vit_norm.running_var)
        mean = projections.vit_norm.running_mean
        expected = (x - mean.view(-1, 1, 1, 1)) / (
            before.view(-1, 1, 1, 1) + 1e-5
        ).sqrt()
        assert torch.allclose(first, expected, atol=1e-5)


class TestTrainable:
    @pytest.mark.parametrize('mode', ['probe', 'predictive', 'learnable'])
    def test_who_trains_phi(self, mode):
        projections = TeacherProjections(
            mode, channels=CHANNELS, num_classes=3
        )
        width = 12 if mode == 'predictive' else 8
        projected = projections(*maps(), width)
        loss = projections.own_loss(*projected, torch.tensor([0, 1, 2, 0]))
        if mode == 'learnable':
            assert loss is None
            return
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in projections.parameters())

    def test_own_loss_of_predictive_is_the_squared_residual(self):
        projections = TeacherProjections('predictive', channels=CHANNELS)
        f_vit, f_cnn = maps()
        vit, cnn = projections(f_vit, f_cnn, 12)
        assert torch.equal(vit, projections.normalise(f_vit, 'vit'))
        loss = projections.own_loss(vit, cnn, None)
        assert torch.allclose(loss, (vit - cnn).square().mean())

    @pytest.mark.parametrize('soft', [False, True])
    def test_own_loss_of_probe_is_two_cross_entropies(self, soft):
        projections = TeacherProjections(
            'probe', channels=CHANNELS, num_classes=3
        )
        vit, cnn = projections(*maps(), 8)
        labels = torch.tensor([0, 1, 2, 0])
        targets = F.one_hot(labels, 3).float() if soft else labels
        expected = 0
        for x, classifier in (
            (vit, projections.vit_classifier),
            (cnn, projections.cnn_classifier),
        ):
            log_probs = classifier(x.mean(dim=(2, 3, 4))).log_softmax(1)
            expected -= log_probs[range(4), labels].mean()
        loss = projections.own_loss(vit, cnn, targets)
        assert torch.allclose(loss, expected)

    def test_probe_needs_labels_and_classes(self):
        with pytest.raises(ValueError, match='needs num_classes'):
            TeacherProjections('probe', channels=CHANNELS)
        projections = TeacherProjections(
            'probe', channels=CHANNELS, num_classes=3
        )
        with pytest.raises(ValueError, match='needs the labels'):
            projections.own_loss(*projections(*maps(), 8), None)

    @pytest.mark.parametrize(
        'mode, norm',
        [('learnable', 'none'), ('identity', 'running_std')],
    )
    def test_missing_widths_are_named(self, mode, norm):
        with pytest.raises(
            ValueError, match=r"channels=dict.*\['cnn', 'vit'\] missing"
        ):
            TeacherProjections(mode, norm, channels=dict(student=8))
