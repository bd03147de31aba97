"""Every repair fails here without itself, and leaves a sound stack alone."""

import contextlib
import functools
import hashlib
import http.server
import importlib
import importlib.util
import os
import os.path as osp
import pickle
import socket
import subprocess
import sys
import textwrap
import threading

import mmaction.registry
import mmengine.dist.utils as dist_utils
import mmengine.runner.checkpoint as checkpoint_module
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.hub import get_config
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OneCycleLR
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint, find_latest_checkpoint
from mmengine.utils.dl_utils import load_url

from dtkd_mmaction import compat
from dtkd_mmaction.compat import cpu_training, imports
from dtkd_mmaction.compat._patching import has_accelerator

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))

on_cpu = pytest.mark.skipif(
    has_accelerator(), reason='these repairs are for the CPU'
)


@pytest.fixture
def as_upstream(monkeypatch):
    """The repairs for the CPU stand aside, as they do beside a GPU."""
    monkeypatch.setattr(cpu_training, 'has_accelerator', lambda: True)


@pytest.fixture(params=['weights_only', 'own unpickler'])
def unpickler(request, monkeypatch):
    """Both ways to read a checkpoint: of PyTorch >= 2.4, and of older ones."""
    if request.param == 'own unpickler':
        monkeypatch.delattr(
            torch.serialization, 'add_safe_globals', raising=False
        )
    elif not hasattr(torch.serialization, 'add_safe_globals'):
        pytest.skip('PyTorch before 2.4')


class Call:
    """Calls ``function(*args)`` when it is unpickled."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def test_apply_twice_changes_nothing():
    def state():
        known = getattr(torch.serialization, 'get_safe_globals', lambda: [])
        return (
            len(known()),
            list(sys.meta_path),
            dist_utils._init_dist_pytorch,
            MMDistributedDataParallel.__init__,
            AmpOptimWrapper.__init__,
        )

    before = state()
    compat.apply()
    assert state() == before


# ------------------------------------------------------------- mmaction.models
@pytest.fixture
def forget_drn(monkeypatch):
    for name in (imports.DRN, f'{imports.DRN}.drn'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    localizers = importlib.import_module('mmaction.models.localizers')
    spec = importlib.machinery.PathFinder.find_spec(
        imports.DRN, localizers.__path__
    )
    if spec is not None:
        pytest.skip('this mmaction2 has the package')


def test_drn_stub_tells_why(forget_drn):
    from mmaction.models.localizers.drn.drn import DRN

    with pytest.raises(ImportError, match='2714'):
        DRN()


def test_drn_is_missing_without_the_finder(forget_drn, monkeypatch):
    monkeypatch.setattr(
        sys,
        'meta_path',
        [f for f in sys.meta_path if not isinstance(f, imports._MissingDRN)],
    )
    with pytest.raises(ModuleNotFoundError, match='localizers.drn'):
        importlib.import_module(f'{imports.DRN}.drn')


def test_a_real_drn_wins(forget_drn, monkeypatch, tmp_path):
    import mmaction.models.localizers as localizers

    (tmp_path / 'drn').mkdir()
    (tmp_path / 'drn' / '__init__.py').touch()
    (tmp_path / 'drn' / 'drn.py').write_text('DRN = "real"')
    monkeypatch.setattr(
        localizers, '__path__', [*localizers.__path__, str(tmp_path)]
    )
    importlib.invalidate_caches()
    assert importlib.import_module(f'{imports.DRN}.drn').DRN == 'real'


def test_any_name_can_be_looked_up_in_any_registry():
    for name, registry in vars(mmaction.registry).items():
        if isinstance(registry, Registry):
            assert registry.get('timm.no_such_model') is None, name


def test_torchvision_can_be_imported():
    if importlib.util.find_spec('torchvision') is None:
        pytest.skip('no torchvision')
    # The module alone: the package would have repaired it already.
    code = f"""
        import importlib.util
        spec = importlib.util.spec_from_file_location(
            'imports', {imports.__file__!r})
        imports = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(imports)
        try:
            import torchvision
            sound = True
        except RuntimeError as error:
            assert 'torchvision::nms does not exist' in str(error), error
            sound = False
        imports.torchvision_operators()
        imports.torchvision_operators()
        import torch
        import torchvision
        net = torchvision.models.resnet18(weights=None).eval()
        assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
        assert (imports._torchvision_library is None) == sound
    """
    subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)],
        check=True,
    )


# ----------------------------------------------------------------- checkpoints
def mmengine_checkpoint():
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    param = torch.zeros(1, requires_grad=True)
    scheduler = OneCycleLR(
        torch.optim.SGD([param], lr=0.1, momentum=0.9),
        eta_max=0.1,
        total_steps=3,
    )
    return dict(
        meta=dict(
            epoch=1,
            cfg='model = dict()',
            best=np.float32(0.5),
            name=np.str_('x3d'),
            dataset_meta=dict(classes=('a', 'b'), counts=np.arange(3)),
        ),
        state_dict=dict(weight=torch.arange(3.0)),
        message_hub=dict(log_scalars=dict(loss=buffer)),
        param_schedulers=[scheduler.state_dict()],
    )


def assert_reads(path):
    checkpoint = _load_checkpoint(str(path), map_location='cpu')
    assert checkpoint['state_dict']['weight'].tolist() == [0, 1, 2]
    assert checkpoint['meta']['best'] == np.float32(0.5)
    assert checkpoint['meta']['name'] == 'x3d'
    assert checkpoint['meta']['dataset_meta']['counts'].tolist() == [0, 1, 2]
    buffer = checkpoint['message_hub']['log_scalars']['loss']
    assert buffer.statistics('mean') == 1.5
    buffer.update(6.0)
    assert buffer.mean() == 3


@pytest.mark.parametrize('zipped', [True, False])
def test_mmengine_checkpoint_loads(tmp_path, unpickler, zipped):
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        mmengine_checkpoint(), path, _use_new_zipfile_serialization=zipped
    )
    assert_reads(path)


@pytest.mark.parametrize('names', [b'numpy.core.', b'numpy._core.'])
def test_names_of_either_numpy_load(tmp_path, unpickler, names):
    path = tmp_path / 'epoch_1.pth'
    # Uncompressed and without lengths beside the names: text can be replaced.
    torch.save(
        mmengine_checkpoint(), path, _use_new_zipfile_serialization=False
    )
    data = path.read_bytes().replace(b'numpy._core.', b'numpy.core.')
    path.write_bytes(data.replace(b'numpy.core.', names))
    assert_reads(path)


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'clear_safe_globals'),
    reason='PyTorch before 2.4',
)
def test_mmengine_checkpoint_is_refused_without_the_list(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(mmengine_checkpoint(), path)
    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError, match='not an allowed'):
            torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(list(known))
    torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    'attack',
    [
        Call(os.system, 'touch ran'),
        Call(eval, "open('ran', 'w')"),
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, np.ndarray, 'tofile'),
        Call(functools.partial, os.system),
        Call(np.load, 'x.npy'),
        HistoryBuffer.register_statistics,
        np.array([Call(os.system, 'touch ran')], dtype=object),
    ],
    ids=[
        'system',
        'eval',
        'getattr',
        'tofile',
        'partial',
        'load',
        'method',
        'array',
    ],
)
@pytest.mark.parametrize('zipped', [True, False])
def test_code_is_refused(tmp_path, monkeypatch, unpickler, attack, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'evil.pth'
    torch.save(
        dict(state_dict={}, x=attack),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(compat.CheckpointError) as error:
        _load_checkpoint(str(path))
    assert str(path) in str(error.value)
    assert 'Refused' in str(error.value)
    assert not osp.exists('ran')


@pytest.mark.parametrize('keep', [0, 10, 0.5, 0.98])
@pytest.mark.parametrize('zipped', [True, False])
def test_cut_file_is_named(tmp_path, unpickler, keep, zipped):
    path = tmp_path / 'cut.pth'
    torch.save(
        dict(state_dict=dict(w=torch.rand(1000))),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(compat.CheckpointError) as error:
        _load_checkpoint(str(path))
    assert str(path) in str(error.value)
    assert 'Cannot read' in str(error.value)


def test_what_is_no_checkpoint_is_named(tmp_path, unpickler):
    path = tmp_path / 'page.pth'
    path.write_text('<!DOCTYPE html><html>404</html>')
    with pytest.raises(compat.CheckpointError, match='page.pth'):
        _load_checkpoint(str(path))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no.pth.*does not exist'):
        _load_checkpoint(str(tmp_path / 'no.pth'))
    with pytest.raises(FileNotFoundError, match='is a directory'):
        _load_checkpoint(str(tmp_path))


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The URL of ``tmp_path``, and an empty cache to download to."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_checkpoint_from_url(tmp_path, unpickler, url):
    torch.save(mmengine_checkpoint(), tmp_path / 'epoch_1.pth')
    assert_reads(f'{url}/epoch_1.pth?download=1')
    (tmp_path / 'epoch_1.pth').unlink()
    assert_reads(f'{url}/epoch_1.pth?download=1')  # from the cache


def test_code_from_url_is_refused(tmp_path, monkeypatch, unpickler, url):
    monkeypatch.chdir(tmp_path)
    torch.save(Call(os.system, 'touch ran'), tmp_path / 'evil.pth')
    with pytest.raises(compat.CheckpointError, match=f'{url}/evil.pth'):
        _load_checkpoint(f'{url}/evil.pth')
    # The schemes that are names for a URL.
    with pytest.raises(compat.CheckpointError, match='evil.pth'):
        monkeypatch.setattr(
            checkpoint_module,
            'get_external_models',
            lambda: dict(x=f'{url}/evil.pth'),
        )
        _load_checkpoint('open-mmlab://x')
    assert not osp.exists('ran')
    # The function that MMEngine calls.
    load_url(f'{url}/evil.pth', progress=False)
    assert osp.exists('ran')


def test_two_urls_with_one_file_name(tmp_path, url):
    """PyTorch's cache gave the second URL the weights of the first."""
    for folder, value in (('a', 1.0), ('b', 2.0)):
        (tmp_path / folder).mkdir()
        torch.save(
            dict(weight=torch.tensor(value)), tmp_path / folder / 'model.pth'
        )
    for query, value in (('a/', 1), ('b/', 2), ('a/', 1)):
        found = _load_checkpoint(f'{url}/{query}model.pth')
        assert found['weight'].item() == value


def test_a_file_of_pytorchs_cache_needs_its_own_hash(tmp_path, url):
    """Files that are there already, such as on a machine without network."""
    cache = tmp_path / 'cache' / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    torch.save(dict(weight=torch.tensor(1.0)), cache / 'model.pth')
    digest = hashlib.sha256((cache / 'model.pth').read_bytes()).hexdigest()
    name = f'model-{digest[:8]}.pth'
    (cache / 'model.pth').rename(cache / name)
    assert _load_checkpoint(f'{url}/{name}')['weight'].item() == 1
    torch.save(dict(weight=torch.tensor(2.0)), tmp_path / name)
    with open(cache / name, 'ab') as file:
        file.write(b'0')
    assert _load_checkpoint(f'{url}/{name}')['weight'].item() == 2


def test_a_cut_download_is_not_kept(tmp_path, monkeypatch):
    class Cuts(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.send_response(200)
            self.send_header('Content-Length', '1000')
            self.end_headers()
            self.wfile.write(b'0' * 500)

        def log_message(self, *args):
            pass

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('no_proxy', '*')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Cuts) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(OSError, match='500 bytes arrived .* of 1000'):
            _load_checkpoint(f'http://127.0.0.1:{server.server_port}/m.pth')
        server.shutdown()
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


# ------------------------------------------------------------------- resuming
class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        out = self.layer(inputs)
        return dict(loss=out.mean()) if mode == 'loss' else out


def run_toy(work_dir, epochs, **kwargs):
    data = [torch.rand(2) for _ in range(4)]
    runner = Runner(
        Toy(),
        str(work_dir),
        train_dataloader=dict(
            dataset=data,
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=lambda batch: dict(inputs=torch.stack(batch)),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1)
        ),
        param_scheduler=dict(type='MultiStepLR', milestones=[1, 2]),
        custom_hooks=[dict(type='EMAHook')],
        experiment_name=f'toy_{epochs}',
        **kwargs,
    )
    runner.train()
    return runner


@on_cpu
def test_resume_with_amp_and_ema(tmp_path):
    run_toy(tmp_path, 1)
    runner = run_toy(tmp_path, 3, resume=True)
    assert runner.iter == 6
    path = find_latest_checkpoint(str(tmp_path))
    checkpoint = _load_checkpoint(path)
    assert checkpoint['meta']['epoch'] == 3
    assert 'ema_state_dict' in checkpoint


@pytest.mark.parametrize(
    'attack',
    [
        '__import__("os").system("touch ran")',
        'model = dict(type=__import__("os").system("touch ran"))',
        "_base_ = ['evil.py']",
    ],
)
@on_cpu
def test_a_config_in_a_checkpoint_is_not_executed(
    tmp_path, monkeypatch, attack
):
    run_toy(tmp_path / 'run', 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'evil.py').write_text('__import__("os").system("touch ran")')
    checkpoint = _load_checkpoint('run/epoch_1.pth')
    checkpoint['meta'].update(config=attack, cfg=attack)
    checkpoint['message_hub']['runtime_info']['cfg'] = attack
    torch.save(checkpoint, 'run/epoch_1.pth')
    assert run_toy(tmp_path / 'run', 2, resume=True).iter == 4
    with pytest.raises(ValueError, match='Cannot find the config'):
        BaseInferencer._init_model(None, {}, 'run/epoch_1.pth')
    assert not osp.exists('ran')
    # The function that MMEngine calls in both places.
    with contextlib.suppress(Exception):
        (tmp_path / 'file.py').write_text(attack)
        Config.fromfile('file.py')
    assert osp.exists('ran')


def test_the_number_of_gpus_is_still_compared(tmp_path):
    text = 'gpu_ids = [0, 1]\nmodel = dict(a=1)\n'
    torch.save(dict(meta=dict(config=text, cfg=text)), tmp_path / 'a.pth')
    meta = _load_checkpoint(str(tmp_path / 'a.pth'))['meta']
    assert meta == dict(config='gpu_ids = [0, 1]', cfg=text)


# --------------------------------------------------------------------- the CPU
@pytest.fixture
def one_process(monkeypatch):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    variables = dict(
        RANK=0,
        LOCAL_RANK=0,
        WORLD_SIZE=1,
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=port,
        SLURM_PROCID=0,
        SLURM_LOCALID=0,
        SLURM_NTASKS=1,
        SLURM_NODELIST='localhost',
    )
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@on_cpu
@pytest.mark.parametrize('launcher', ['pytorch', 'slurm'])
def test_nccl_config_starts_on_cpu(one_process, launcher):
    set_device = torch.cuda.set_device
    init_dist(launcher, backend='nccl')
    assert torch.distributed.get_backend() == 'gloo'
    assert torch.cuda.set_device is set_device


@on_cpu
@pytest.mark.parametrize('backend', ['nccl', 'gloo'])
def test_launcher_fails_upstream(one_process, as_upstream, backend):
    with pytest.raises((AttributeError, RuntimeError, AssertionError)):
        init_dist('pytorch', backend=backend)


@on_cpu
def test_ddp_of_a_cpu_model(one_process):
    init_dist('pytorch', backend='gloo')
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.SyncBatchNorm(3)
    )
    ddp = MMDistributedDataParallel(model, device_ids=[0])
    ddp(torch.rand(4, 2)).sum().backward()
    assert model[0].weight.grad is not None


@on_cpu
def test_ddp_of_a_cpu_model_fails_upstream(one_process, monkeypatch):
    init_dist('pytorch', backend='gloo')
    monkeypatch.setattr(cpu_training, 'has_accelerator', lambda: True)
    with pytest.raises(ValueError, match='device_ids'):
        MMDistributedDataParallel(torch.nn.Linear(2, 3), device_ids=[0])
    sync_bn = torch.nn.SyncBatchNorm(3)
    with pytest.raises(ValueError, match='SyncBatchNorm'):
        MMDistributedDataParallel(sync_bn, device_ids=None)


def optimizer():
    return torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)


@on_cpu
def test_amp_trains_in_bfloat16():
    # What --amp makes of a config, and a wish that the CPU cannot grant.
    for options in (dict(), dict(dtype='float16', loss_scale=512.0)):
        wrapper = AmpOptimWrapper(
            optimizer=optimizer(), clip_grad=dict(max_norm=1), **options
        )
        layer = torch.nn.Linear(2, 2)
        with wrapper.optim_context(layer):
            assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
        weight = wrapper.optimizer.param_groups[0]['params'][0]
        wrapper.update_params((weight * 3).sum())
        # Gradient (3, 3) clipped to length 1, no trace of a loss scale.
        assert weight.tolist() == pytest.approx([1 - 0.1 / 2**0.5] * 2)
        wrapper.load_state_dict(wrapper.state_dict())


@on_cpu
def test_amp_fails_upstream(as_upstream):
    with pytest.raises(AssertionError, match='only available'):
        AmpOptimWrapper(optimizer=optimizer())


@on_cpu
def test_amp_state_moves_between_cpu_and_gpu():
    class GpuScaler:
        def load_state_dict(self, state):
            if not state:
                raise RuntimeError('The source state dict is empty')
            self.state = state

    wrapper = AmpOptimWrapper(optimizer=optimizer())
    from_cpu = wrapper.state_dict()
    from_gpu = dict(from_cpu, loss_scaler=dict(scale=2.0))
    wrapper.load_state_dict(dict(from_gpu))
    wrapper.loss_scaler = GpuScaler()
    wrapper.load_state_dict(dict(from_gpu))
    assert wrapper.loss_scaler.state == dict(scale=2.0)
    wrapper.load_state_dict(dict(from_cpu))
    with pytest.raises(RuntimeError, match='empty'):
        AmpOptimWrapper.load_state_dict._dtkd_upstream(wrapper, from_cpu)


def test_bfloat16_logits():
    from mmaction.evaluation import AccMetric
    from mmaction.models.heads import BaseHead, X3DHead
    from mmaction.structures import ActionDataSample

    with DefaultScope.overwrite_default_scope('mmaction'):
        head = X3DHead(3, 4, average_clips='prob')
    samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
    logits = torch.rand(2, 3)
    half = logits.bfloat16().requires_grad_()
    with pytest.raises(TypeError, match='BFloat16'):
        BaseHead.loss_by_feat._dtkd_upstream(head, half, samples)
    losses = head.loss_by_feat(half, samples)
    losses['loss_cls'].backward()
    assert half.grad.dtype == torch.bfloat16

    metric = AccMetric()
    predictions = head.predict_by_feat(half.detach(), samples)
    metric.process(None, [s.to_dict() for s in predictions])
    assert metric.evaluate(2)['acc/top5'] == 1
    # Other types are not touched.
    head.average_clips = 'score'
    predictions = head.predict_by_feat(logits.half(), samples)
    assert predictions[0].pred_score.dtype == torch.float16


# --------------------------------------------------------------- command lines
@on_cpu
def test_dist_train_of_a_stock_config(tmp_path):
    """No custom_imports, NCCL, --amp: two processes on the CPU."""
    (tmp_path / 'toy_data.py').write_text(
        textwrap.dedent("""
        import torch
        from mmaction.registry import DATASETS
        from mmaction.structures import ActionDataSample

        @DATASETS.register_module()
        class ToyVideos(torch.utils.data.Dataset):
            metainfo = {}

            def __len__(self):
                return 4

            def __getitem__(self, i):
                return dict(
                    inputs=torch.full((1, 3, 4, 32, 32), i).byte(),
                    data_samples=ActionDataSample().set_gt_label(i % 2))
        """)
    )
    name = 'mmaction::recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py'
    config = get_config(name)
    assert 'custom_imports' not in config
    assert config.env_cfg.dist_cfg.backend == 'nccl'
    loader = dict(
        batch_size=1,
        num_workers=0,
        dataset=dict(type='ToyVideos'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    config = Config(
        dict(
            _base_=name,
            custom_imports=dict(imports=['toy_data']),
            train_dataloader=loader,
            val_dataloader=loader,
            val_evaluator=dict(type='AccMetric'),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
            val_cfg=dict(type='ValLoop', fp16=True),
            test_cfg=None,
            test_dataloader=None,
            test_evaluator=None,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        )
    )
    config.dump(str(tmp_path / 'config.py'))
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = dict(
        os.environ,
        PYTHON=sys.executable,
        PYTHONPATH=str(tmp_path),
        PYTHONWARNINGS='ignore',
        OMP_NUM_THREADS='1',
        PORT=str(port),
    )
    script = osp.join(ROOT, 'tools', 'dist_train.sh')
    done = subprocess.run(
        ['bash', script, 'config.py', '2', '--amp', '--work-dir', 'out'],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert done.stdout.count('gloo is used instead of nccl') == 1
    assert done.stdout.count('AMP trains in bfloat16') == 1
    assert 'acc/top1' in done.stdout
    assert (tmp_path / 'out' / 'epoch_1.pth').is_file()


# --------------------------------------------------------------------------
# decoding
# --------------------------------------------------------------------------
class TestDecordReadsByPath:
    @pytest.fixture
    def truncated_avi(self, tmp_path):
        """Half of an MJPEG AVI: given as bytes, it crashes decord."""
        import cv2

        path = str(tmp_path / 'half.avi')
        writer = cv2.VideoWriter(
            path, cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 64)
        )
        noise = np.random.default_rng(0)
        for _ in range(60):
            writer.write(noise.integers(0, 255, (64, 64, 3), np.uint8))
        writer.release()
        with open(path, 'r+b') as f:
            f.truncate(osp.getsize(path) // 2)
        return path

    def open_clip(self, path, repaired):
        script = textwrap.dedent(f"""
            from dtkd_mmaction import compat
            from mmaction.datasets.transforms import DecordInit
            if not {repaired}:
                get = DecordInit._get_video_reader
                DecordInit._get_video_reader = get._dtkd_upstream
            try:
                print(DecordInit().transform(dict(filename={path!r})))
            except RuntimeError as error:
                print('raised', error)
        """)
        return subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', script],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    def test_a_truncated_clip_does_not_crash_the_process(self, truncated_avi):
        assert self.open_clip(truncated_avi, repaired=False).returncode < 0
        run = self.open_clip(truncated_avi, repaired=True)
        assert run.returncode == 0, run.stderr
        assert "'total_frames': 30" in run.stdout

    def test_what_is_no_clip_is_named(self, tmp_path):
        path = str(tmp_path / 'garbage.mp4')
        with open(path, 'wb') as f:
            f.write(b'no video at all')
        assert path not in self.open_clip(path, repaired=False).stdout
        assert (
            f'raised decord cannot open {path}'
            in self.open_clip(path, repaired=True).stdout
        )

    def test_other_backends_are_left_to_upstream(self):
        from mmaction.datasets.transforms import DecordInit

        transform = DecordInit(io_backend='petrel')
        transform.file_client = type(
            'Client', (), dict(get=lambda self, name: b'asked upstream')
        )()
        with pytest.raises(Exception, match='reading 14 bytes'):
            transform.transform(dict(filename='remote.mp4'))


class TestTIN:
    @staticmethod
    def tin_shift(data, shift):
        """As in the kernel of mmcv, frame t moves to frame t + shift."""
        moved = torch.zeros_like(data)
        group = data.shape[2] // shift.shape[1]
        for n in range(data.shape[0]):
            for c in range(data.shape[2]):
                for t in range(data.shape[1]):
                    to = t + int(shift[n, c // group])
                    if 0 <= to < data.shape[1]:
                        moved[n, to, c] = data[n, t, c]
        return moved

    def test_shifts_as_upstream_does_with_the_operator(self, monkeypatch):
        from mmaction.models.backbones.resnet_tin import linear_sampler

        monkeypatch.setitem(
            sys.modules,
            'mmcv.ops',
            type('Ops', (), dict(tin_shift=self.tin_shift)),
        )
        data = torch.randn(2, 5, 6, 2, 3)
        offset = torch.tensor([[0.0, -1.25, 2.0], [7.5, -0.5, 1.75]])
        results = []
        for function in (linear_sampler._dtkd_upstream, linear_sampler):
            offset_in = offset.clone().requires_grad_()
            moved = function(data, offset_in)
            moved.square().sum().backward()
            results.append((moved.detach(), offset_in.grad))
        for theirs, ours in zip(*results):
            assert torch.allclose(theirs, ours, atol=1e-5)
