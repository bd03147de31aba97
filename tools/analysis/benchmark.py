"""What distillation costs: ratios, measured side by side in one run.

    python tools/analysis/benchmark.py --out benchmark.md --json benchmark.json

Variants are run in turn, round after round, and compared within a round, so
that the machine's drift cancels; given are the median ratio and its range.
Weights are random, at the scale of trained ones. Clips are generated.
"""

import argparse
import copy
import json
import os.path as osp
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
import torch
import torch.nn as nn
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dtkd_mmaction.acceleration import REWRITES, to_channels_last
from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.distillers import DualTeacherDistiller
from dtkd_mmaction.distillers.base import labels_of
from dtkd_mmaction.distillers.feature_layout import ClipShape, as_grid
from dtkd_mmaction.distillers.model_spec import (
    build_recognizer,
    load_config,
    set_num_classes,
)
from dtkd_mmaction.distillers.tapped_recognizer import model_inputs
from dtkd_mmaction.distillers.teacher import FrozenTeacher
from dtkd_mmaction.distillers.teacher_cache_writer import TeacherCacheWriter
from dtkd_mmaction.engine.fast_student_hook import now
from dtkd_mmaction.engine.student_export import student_checkpoint
from dtkd_mmaction.modules.grid import resize_grid

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
LAYOUTS = ('stock layout', 'channels-last')
GROUPS = ('steps', 'teachers', 'losses', 'loading', 'export')
CLIPS = 8  # generated videos
VIDEO = dict(frames=90, width=320, height=240)


class Ratio(NamedTuple):
    """One variant's time as a part of another's.

    Attributes:
        group (str): Which measurement.
        name (str): What was measured.
        reference (str): Beside what.
        ratio (float): Median over rounds.
        low (float): Smallest of all rounds.
        high (float): Largest.
        seconds (float, optional): Median time of the variant.
        note (str): What else there is to say.
    """

    group: str
    name: str
    reference: str
    ratio: float
    low: float
    high: float
    seconds: Optional[float]
    note: str = ''


class Times:
    """Seconds of variants that were run in turn.

    Args:
        variants (dict[str, callable]): Each is called once more, first.
        rounds (int): Calls of each that count.
    """

    def __init__(
        self, variants: Dict[str, Callable[[], Any]], rounds: int
    ) -> None:
        self.seconds: Dict[str, List[float]] = defaultdict(list)
        for turn in range(rounds + 1):
            for name, variant in variants.items():
                begun = now()
                variant()
                if turn:
                    self.seconds[name].append(now() - begun)

    def ratio(
        self, group: str, name: str, references: List[str], note: str = ''
    ) -> Ratio:
        """Of a variant to the sum of some others, round by round."""
        sums = [sum(r) for r in zip(*(self.seconds[n] for n in references))]
        ratios = [a / b for a, b in zip(self.seconds[name], sums)]
        return Ratio(
            group,
            name,
            ' + '.join(references),
            median(ratios),
            min(ratios),
            max(ratios),
            median(self.seconds[name]),
            note,
        )


# What is measured


def realistic(model: nn.Module) -> nn.Module:
    """Give random weights the scale of trained ones, in place.

    As they are built, position tables are zero and logits nearly constant,
    so that no comparison of answers could fail.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name or 'bias_table' in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = 0.5 * noise.to(parameter)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_var.fill_(0.8)
            module.running_mean.fill_(0.05)
    for module in model.cls_head.modules():
        if isinstance(module, nn.Linear):
            module.weight.data *= (
                3 / module.weight.data.std() / (module.in_features**0.5)
            )
    return model


@MODELS.register_module()
class StockTeachers(DualTeacherDistiller):
    """Two ``SingleTeacherDistill`` of MMRazor, as it would run them.

    Each teacher computes its own label loss too (``mode='loss'``) and stays
    in training mode but for BatchNorm. It is spared one thing that MMRazor
    would do: here it gets its own view and normalisation.
    """

    def teach(self, clips: Tensor, names: Any, data_samples: list) -> dict:
        """What the teachers say, without gradient."""
        found = {}
        with torch.no_grad():
            for name in names:
                teacher = self.teachers[name]
                inputs = model_inputs(teacher.recognizer, teacher.view, clips)
                with teacher.tap.record(inputs, ()) as recording:
                    teacher.recognizer.loss(inputs, data_samples)
                found[name] = recording
        return found


def plain_loop(distiller: DualTeacherDistiller, batch: dict) -> Tensor:
    """The same losses written by hand: backbone, head, three formulas."""
    clips, samples = batch['inputs'], batch['data_samples']
    labels = labels_of(samples, clips.device)

    def forward(model: nn.Module, view: Any, tap: Any) -> tuple:
        inputs = model_inputs(model, view, clips)
        features = model.backbone(inputs.flatten(0, 1))
        logits = model.cls_head(features)
        grid = as_grid(
            features,
            ClipShape.of(inputs),
            tap.token_layout,
            tap.patch_size,
        )
        return logits, grid, pooled(features)

    student = forward(
        distiller.student, distiller.student_view, distiller.student_tap
    )
    with torch.no_grad():
        vit, cnn = (
            forward(t.recognizer, t.view, t.tap)
            for t in distiller.teachers.values()
        )
    loss = nn.functional.cross_entropy(student[0], labels)
    loss = loss + distiller.loss_sr(student[0], dict(vit=vit[0], cnn=cnn[0]))
    target = distiller.loss_sd.target(
        vit[1], cnn[1], student[1].shape[2:], student[1].shape[1]
    )
    grid = target.residual.shape[2:]
    predicted = distiller.branch(resize_grid(student[1], grid))
    loss = loss + distiller.loss_sd.compare(predicted, target)
    return loss + distiller.loss_rkd(student[2], vit[2])


def pooled(features: Any) -> Tensor:
    """A class token, or a map's mean."""
    if isinstance(features, Tensor):
        return features.mean(dim=(2, 3, 4))
    return features[-1][-1]


class Bench:
    """Models, clips and a cache, made once for all groups.

    Args:
        args (argparse.Namespace): Of the command line.
        folder (Path): For clips and cache.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.device = torch.device(args.device)
        self.config = Config.fromfile(args.config)
        for name, view in (
            ('student', args.student_view),
            ('vit_teacher', args.teacher_view),
            ('cnn_teacher', args.teacher_view),
        ):
            self.config.model[name].checkpoint = None
            self.config.model[name].view = dict(frames=view[0], size=view[1])
        write_clips(folder, self.config.model.get('num_classes') or 2)
        self.pipeline = training_pipeline(*args.teacher_view)
        self.dataset_config = dict(
            type='KeyedViewDataset',
            views=1,
            dataset=dict(
                type='CheckedVideoDataset',
                ann_file=str(folder / 'clips.txt'),
                data_prefix=dict(video=str(folder)),
                pipeline=self.pipeline,
            ),
        )
        self.folder = folder
        self.dataset: KeyedViewDataset = DATASETS.build(self.dataset_config)
        self.dataset.full_init()
        self.data = pseudo_collate(
            [self.dataset[i % CLIPS, 0] for i in range(args.batch)]
        )
        for name in ('vit_teacher', 'cnn_teacher'):
            path = folder / f'{name}.pth'
            spec = self.config.model[name]
            teacher = FrozenTeacher(
                spec, self.config.model.get('num_classes'), name
            )
            weights = realistic(teacher.recognizer).state_dict()
            torch.save(dict(state_dict=weights), path)
            spec.checkpoint = str(path)

    def distiller(
        self, distiller_type: str = 'DualTeacherDistiller', **options: Any
    ) -> DualTeacherDistiller:
        """A distiller with the same student, ready to train."""
        torch.manual_seed(0)
        model = copy.deepcopy(self.config.model)
        optimise = options.pop('optimise', True)
        model.vit_teacher.optimise = model.cnn_teacher.optimise = optimise
        model.update(options, type=distiller_type)
        distiller = MODELS.build(model)
        distiller.init_weights()
        realistic(distiller.student)
        return distiller.to(self.device).train()

    def cache(self, distiller: DualTeacherDistiller) -> str:
        """Write a cache of all clips with the real writer."""
        out = str(self.folder / 'cache')
        writer = TeacherCacheWriter(
            distiller, self.dataset, self.dataset_config, out, views=1
        )
        writer.begin()
        for _ in writer.write(writer.todo(), self.args.batch):
            pass
        return out


def step_of(
    model: nn.Module, loss_of: Callable[[dict], Tensor], data: dict
) -> Callable[[], None]:
    """Forward, losses, backward and SGD of one batch."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    def step() -> None:
        batch = model.data_preprocessor(dict(data), training=True)
        optimizer.zero_grad()
        loss_of(batch).backward()
        optimizer.step()

    return step


def total_loss(distiller: DualTeacherDistiller, batch: dict) -> Tensor:
    """All losses of a distiller."""
    losses = distiller(**batch, mode='loss')
    return sum(value for name, value in losses.items() if 'loss' in name)


def student_loss(distiller: DualTeacherDistiller, batch: dict) -> Tensor:
    """The student's label loss alone."""
    inputs = model_inputs(
        distiller.student, distiller.student_view, batch['inputs']
    )
    return distiller.student.loss(inputs, batch['data_samples'])['loss_cls']


def measure_steps(bench: Bench) -> List[Ratio]:
    """Whole training steps."""
    args = bench.args
    live, stock = bench.distiller(), bench.distiller(optimise=False)
    folder = bench.cache(live)
    variants: Dict[str, Callable[[], Any]] = {}
    batch = live.data_preprocessor(dict(bench.data))
    for name, distiller in (('teachers, stock', stock), ('teachers', live)):
        variants[name] = partial(
            distiller.teach, batch['inputs'], ('vit', 'cnn'), []
        )
    razor = bench.distiller(
        'StockTeachers', optimise=False, teacher_mode='bn_eval_only'
    )
    for layout in LAYOUTS:
        live, cached = bench.distiller(), bench.distiller(teacher_cache=folder)
        cached.teacher_cache.data_is_checked = True  # made just now
        if layout == 'channels-last':
            for distiller in (live, cached):
                to_channels_last(distiller.student)
        for name, distiller, loss in (
            ('student step', live, student_loss),
            ('cached step', cached, total_loss),
            ('live step', live, total_loss),
            ('plain loop', live, plain_loop),
        ):
            variants[f'{name}, {layout}'] = step_of(
                distiller, partial(loss, distiller), bench.data
            )
    for name, distiller in (
        ('live step with stock teachers', stock),
        ('MMRazor-style step', razor),
    ):
        variants[f'{name}, {LAYOUTS[0]}'] = step_of(
            distiller, partial(total_loss, distiller), bench.data
        )
    times = Times(variants, args.rounds)
    plain = 'student step, {}'
    ratios = []
    for layout in LAYOUTS:
        beside = [plain.format(layout)]
        for name in ('cached step', 'live step'):
            ratios.append(times.ratio('steps', f'{name}, {layout}', beside))
        for name in ('live step', 'plain loop'):
            ratios.append(
                times.ratio(
                    'steps', f'{name}, {layout}', beside + ['teachers']
                )
            )
    first = LAYOUTS[0]
    pairs = (
        (f'live step with stock teachers, {first}', f'cached step, {first}'),
        (f'live step, {first}', f'MMRazor-style step, {first}'),
        (plain.format('channels-last'), plain.format(first)),
        ('teachers', 'teachers, stock'),
        ('teachers', plain.format(first)),
    )
    ratios += [times.ratio('steps', name, [beside]) for name, beside in pairs]
    return ratios


def measure_teachers(bench: Bench) -> List[Ratio]:
    """Each rewrite of each teacher alone, all, and low precision."""
    clips = bench.distiller(optimise=False).data_preprocessor(
        dict(bench.data)
    )['inputs']
    ratios = []
    for name in ('vit_teacher', 'cnn_teacher'):
        options: Dict[str, dict] = dict(stock=dict(optimise=False))
        for rewrite in REWRITES:
            chosen = dict.fromkeys(REWRITES, False)
            options[rewrite] = dict(optimise=dict(chosen, **{rewrite: True}))
        options['all rewrites'] = {}
        options['all rewrites, bf16'] = dict(precision='bf16')
        variants, answers = {}, {}
        for option, spec in options.items():
            teacher = FrozenTeacher(
                dict(bench.config.model[name], **spec),
                bench.config.model.get('num_classes'),
                name,
            )
            teacher.load_checkpoint()
            teacher.to(bench.device)
            before = set(map(id, teacher.modules()))
            teacher.optimise()
            changed = before != set(map(id, teacher.modules())) or any(
                'forward' in vars(m) or is_channels_last(m)
                for m in teacher.modules()
            )
            if changed or option in ('stock', 'all rewrites, bf16'):
                variants[f'{name}: {option}'] = partial(teacher, clips)
                answers[f'{name}: {option}'] = teacher(clips).logits
        times = Times(variants, bench.args.rounds)
        stock = answers[f'{name}: stock']
        for variant in list(variants)[1:]:
            distance = (answers[variant] - stock).abs().max() / stock.std()
            ratios.append(
                times.ratio(
                    'teachers',
                    variant,
                    [f'{name}: stock'],
                    f'logits differ by {float(distance):.1e} of their '
                    'standard deviation',
                )
            )
    return ratios


def is_channels_last(module: nn.Module) -> bool:
    """Whether it is a 3-D convolution that was laid out so."""
    return isinstance(module, nn.Conv3d) and not module.weight.is_contiguous()


def measure_losses(bench: Bench) -> List[Ratio]:
    """Loss terms on given tensors, and what a step keeps for backward."""
    distiller = bench.distiller()
    batch = distiller.data_preprocessor(dict(bench.data))
    taught = distiller.teach(batch['inputs'], ('vit', 'cnn'), [])
    with torch.no_grad():
        _, student = distiller.student_forward(
            batch['inputs'], batch['data_samples']
        )
        logits = student.logits.detach()
        feature_map = student.map.detach()
        embedding = student.embedding.detach()

    def backward(loss: Callable[..., Tensor], tensor: Tensor) -> None:
        loss(tensor.clone().requires_grad_()).backward()

    def structure(tensor: Tensor) -> Tensor:
        target = distiller.loss_sd.target(
            taught['vit'].map,
            taught['cnn'].map,
            tensor.shape[2:],
            tensor.shape[1],
        )
        pooled_map = resize_grid(tensor, target.residual.shape[2:])
        return distiller.loss_sd.compare(distiller.branch(pooled_map), target)

    step = step_of(distiller, partial(student_loss, distiller), bench.data)
    variants = {
        'student step': step,
        'loss_sr': partial(
            backward,
            lambda x: distiller.loss_sr(
                x, {n: t.logits for n, t in taught.items()}
            ),
            logits,
        ),
        'loss_sd with its branch': partial(backward, structure, feature_map),
        'loss_rkd': partial(
            backward,
            lambda x: distiller.loss_rkd(x, taught['vit'].embedding),
            embedding,
        ),
    }
    times = Times(variants, bench.args.rounds)
    ratios = [
        times.ratio('losses', name, ['student step'])
        for name in list(variants)[1:]
    ]
    plain = bytes_kept(partial(student_loss, distiller), batch)
    whole = bytes_kept(partial(total_loss, distiller), batch)
    memory = whole / plain
    note = f'{plain / 2**20:.1f} and {whole / 2**20:.1f} MiB'
    ratios.append(
        Ratio(
            'losses',
            'bytes kept for backward, live step',
            'student step',
            *[memory] * 3,
            None,
            note,
        )
    )
    return ratios


def bytes_kept(loss_of: Callable[[dict], Tensor], batch: dict) -> int:
    """Bytes of all storages that autograd keeps for the backward pass."""
    storages: Dict[int, int] = {}
    keep: List[Tensor] = []  # alive, so that no address comes twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        keep.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss_of(batch)
    return sum(storages.values())


def measure_loading(bench: Bench) -> List[Ratio]:
    """The training pipeline by decoder, kept views, and the cache."""
    decoders = {
        'DecordDecode': ('DecordInit', 'DecordDecode'),
        'FrameExactDecode': ('DecordInit', 'FrameExactDecode'),
        'PyAVDecode': ('PyAVInit', 'PyAVDecode'),
        'OpenCVDecode': ('OpenCVInit', 'OpenCVDecode'),
    }
    variants: Dict[str, Callable[[], None]] = {}

    def load(dataset: KeyedViewDataset) -> None:
        for index in range(CLIPS):
            dataset[index, 0]

    for name, (begin, decode) in decoders.items():
        config = copy.deepcopy(bench.dataset_config)
        config['dataset']['pipeline'][0] = dict(type=begin)
        config['dataset']['pipeline'][2] = dict(type=decode)
        variants[name] = partial(load, DATASETS.build(config))
    config = dict(bench.dataset_config, kept_in=str(bench.folder / 'views'))
    variants['kept views'] = partial(load, DATASETS.build(config))
    times = Times(variants, bench.args.rounds)
    return [
        times.ratio(
            'loading',
            name,
            ['DecordDecode'],
            f'{CLIPS / median(times.seconds[name]):.1f} clips a second, one '
            'process',
        )
        for name in variants
    ]


def measure_export(bench: Bench) -> List[Ratio]:
    """The exported student beside the stock model."""
    distiller = bench.distiller(optimise=False)
    state = {
        f'student.{name}': value
        for name, value in distiller.student.state_dict().items()
    }
    exported = student_checkpoint(dict(state_dict=state))['state_dict']
    config = load_config(bench.config.model.student, 'model.student')
    set_num_classes(config.model, bench.config.model.get('num_classes'))
    stock = build_recognizer(config, 'model.student').eval().to(bench.device)
    stock.load_state_dict(exported, strict=True)
    batch = distiller.data_preprocessor(dict(bench.data))
    inputs = model_inputs(stock, distiller.student_view, batch['inputs'])
    distiller.student.eval()

    @torch.no_grad()
    def run(model: nn.Module) -> Tensor:
        return model.extract_feat(inputs, stage='head')[0]

    variants = {
        'exported student': partial(run, stock),
        'student in the distiller': partial(run, distiller.student),
    }
    same = torch.equal(run(stock), run(distiller.student))
    times = Times(variants, bench.args.rounds)
    return [
        times.ratio(
            'export',
            'exported student',
            ['student in the distiller'],
            f'keys identical (loaded strictly), logits bit-equal: {same}',
        )
    ]


# Clips


def write_clips(folder: Path, num_classes: int) -> None:
    """Moving noise as mp4 files, and their list."""
    generator = np.random.default_rng(0)
    size = (VIDEO['height'], VIDEO['width'], 3)
    lines = []
    for index in range(CLIPS):
        writer = cv2.VideoWriter(
            str(folder / f'{index}.mp4'),
            cv2.VideoWriter_fourcc(*'mp4v'),
            30,
            (VIDEO['width'], VIDEO['height']),
        )
        still = generator.integers(0, 255, (24, 32, 3), np.uint8)
        still = cv2.resize(still, size[1::-1])
        for frame in range(VIDEO['frames']):
            writer.write(np.roll(still, 2 * frame, axis=1))
        writer.release()
        lines.append(f'{index}.mp4 {index % num_classes}')
    (folder / 'clips.txt').write_text('\n'.join(lines))


def training_pipeline(frames: int, size: int) -> List[dict]:
    """As in ``configs/_base_/datasets/hmdb51.py``."""
    return [
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=frames,
            frame_interval=4,
            num_clips=1,
        ),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(-1, 256)),
        dict(type='RandomResizedCrop'),
        dict(type='Resize', scale=(size, size), keep_ratio=False),
        dict(type='Flip', flip_ratio=0.5),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]


# What is said of it

MEASURE = dict(
    steps=measure_steps,
    teachers=measure_teachers,
    losses=measure_losses,
    loading=measure_loading,
    export=measure_export,
)
# Target -> group, name, reference (where one name has several), at most.
TARGETS: Dict[str, Tuple[str, str, str, float]] = {
    'R1 cached step': ('steps', 'cached step, stock layout', '', 1.03),
    'R1 cached step, channels-last': (
        'steps',
        'cached step, channels-last',
        '',
        1.03,
    ),
    'R2 live step beside student and teachers': (
        'steps',
        'live step, stock layout',
        'teachers',
        1.03,
    ),
    'R3 optimised teachers beside stock ones': (
        'steps',
        'teachers',
        'teachers, stock',
        0.80,
    ),
    'R4 live step beside an MMRazor-style one': (
        'steps',
        'live step, stock layout',
        'MMRazor',
        0.80,
    ),
    'R6 channels-last student': (
        'steps',
        'student step, channels-last',
        '',
        0.65,
    ),
    'R7 exported student': ('export', 'exported student', '', 1.02),
    'R8 bytes kept for backward': (
        'losses',
        'bytes kept for backward, live step',
        '',
        1.02,
    ),
}


def target_rows(ratios: List[Ratio]) -> List[str]:
    """Lines of the table of targets, for those that were measured."""
    lines = []
    for target, (group, name, reference, limit) in TARGETS.items():
        for found in ratios:
            if (found.group, found.name) == (group, name) and (
                reference in found.reference
            ):
                met = 'yes' if found.ratio <= limit else 'no'
                lines.append(
                    f'| {target} | <= {limit:.2f} | {found.ratio:.3f} | '
                    f'{met} |'
                )
                break
    return lines


def report(ratios: List[Ratio], args: argparse.Namespace) -> str:
    """Markdown: the targets, then everything that was measured."""
    device = args.device
    if device == 'cuda':
        device = torch.cuda.get_device_name()
    lines = [
        f'`{osp.basename(args.config)}`, batch {args.batch}, student '
        f'{view_text(args.student_view)}, teachers '
        f'{view_text(args.teacher_view)}; {device}, '
        f'{torch.get_num_threads()} threads, PyTorch {torch.__version__}; '
        f'{args.rounds} rounds.',
        '',
        '| target | wanted | measured | met |',
        '| --- | --- | --- | --- |',
        *target_rows(ratios),
        '',
        '| measured | beside | ratio | range | seconds | |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    for r in ratios:
        seconds = '' if r.seconds is None else f'{r.seconds:.3f}'
        lines.append(
            f'| {r.name} | {r.reference} | {r.ratio:.3f} | {r.low:.3f} to '
            f'{r.high:.3f} | {seconds} | {r.note} |'
        )
    return '\n'.join(lines) + '\n'


def view_text(view: List[int]) -> str:
    """16 x 224 x 224."""
    return f'{view[0]} x {view[1]} x {view[1]}'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--config',
        default=osp.join(ROOT, 'configs/dtkd/x3d_s_hmdb51.py'),
        help='of a DualTeacherDistiller; its weights are not loaded',
    )
    parser.add_argument('--groups', nargs='+', choices=GROUPS, default=GROUPS)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=5)
    for name, default in (('student', [16, 160]), ('teacher', [16, 224])):
        parser.add_argument(
            f'--{name}-view',
            nargs=2,
            type=int,
            default=default,
            metavar=('FRAMES', 'SIZE'),
        )
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--threads', type=int, help="default: PyTorch's")
    parser.add_argument('--out', help='Markdown file')
    parser.add_argument('--json', help='JSON file')
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    init_default_scope('mmaction')
    ratios: List[Ratio] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        for group in args.groups:
            ratios += MEASURE[group](bench)
    text = report(ratios, args)
    Console().print(Markdown(text))
    if args.out:
        Path(args.out).write_text(text)
    if args.json:
        Path(args.json).write_text(
            json.dumps([r._asdict() for r in ratios], indent=1)
        )


if __name__ == '__main__':
    main()
