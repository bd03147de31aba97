"""Fits the classification layer of a frozen recognizer in one pass.

    python tools/probe_teacher.py CONFIG --out teacher.pth

makes a teacher for your classes from a pretrained backbone in minutes. The
weights of the backbone are ``load_from`` of CONFIG (or ``--weights``, or
weights that the config loads itself, such as ``pretrained=True`` of timm). The
tool computes the embeddings of the training clips once, fits the last linear
layer by logistic regression, measures it on the validation list and writes a
stock checkpoint of the whole recognizer.

CONFIG is a stock recognizer config (configs/teachers), or a distillation
config together with ``--teacher vit``: then the teacher sees its own view of
the shared clips, as in distillation. Clips with the label -1 are left out. If
the command is killed, run it again to continue.
"""

import argparse
import os.path as osp
import time
import warnings
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from analysis.inspection import (
    centre_pipeline,
    centred_dataset,
    innermost,
)
from mmaction.models import Recognizer2D
from mmaction.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from probing import (
    EmbeddingStore,
    LinearClassifier,
    ProbedModel,
    Standardiser,
    cross_validate,
    fit,
    group_names,
    log_loss,
    looks_grouped,
    make_folds,
)
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from dtkd_mmaction.datasets.clips_digest import clips_digest
from dtkd_mmaction.files import atomic_file
from dtkd_mmaction.recognizers.clip_view import ClipView
from dtkd_mmaction.recognizers.model_spec import (
    load_config,
    set_num_classes,
)
from dtkd_mmaction.teachers.cache_fingerprint import describe_data
from dtkd_mmaction.teachers.cache_format import FORMAT
from dtkd_mmaction.version import __version__

FOLDS = 5
# Regularisation strengths that are compared.
STRENGTHS = tuple(10 ** (k / 2) for k in range(-8, 3))


class Split(NamedTuple):
    """A list of clips whose embeddings are computed.

    Attributes:
        dataset: Data set of the clips.
        keyed (bool): Whether it takes (clip, view).
        description (dict): All that the clips depend on.
        names (list[str]): Paths of the clips.
        labels (list[int]): Classes of the clips; -1 for no label.
    """

    dataset: Any
    keyed: bool
    description: Dict[str, Any]
    names: List[str]
    labels: List[int]


class Embedded(NamedTuple):
    """Embeddings of one list.

    Attributes:
        features (Tensor): (n, R, D).
        labels (Tensor): (n,).
        clips (list[int]): (n,), index of the clip.
    """

    features: Tensor
    labels: Tensor
    clips: List[int]


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='a recognizer or distillation config')
    parser.add_argument('--out', required=True, help='checkpoint to write')
    parser.add_argument(
        '--teacher',
        help='which teacher of a distillation config: vit, cnn, or a name of\n'
        'model.teachers; not needed if there is one',
    )
    parser.add_argument(
        '--weights',
        help='checkpoint of the backbone; default: load_from of the config,\n'
        "or the teacher's checkpoint",
    )
    parser.add_argument(
        '--views',
        type=int,
        default=4,
        help='random views of each training clip, in addition to the centred\n'
        'one; default 4',
    )
    parser.add_argument(
        '--group-by',
        metavar='REGEX',
        help='group of clips that look alike, found in the path of a clip;\n'
        r"UCF101: '_g(\d+)_'. Cross-validation never splits a group",
    )
    parser.add_argument(
        '--embeddings',
        help='folder for embeddings; default: next to --out',
    )
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument(
        '--workers', type=int, default=2, help='processes that decode'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    return parser.parse_args(argv)


def read_config(args: argparse.Namespace) -> Config:
    """Reads the config and runs its ``custom_imports``."""
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    if config.get('custom_imports'):
        import_modules_from_strings(**config.custom_imports)
    init_default_scope('mmaction')
    return config


def teacher_specs(model: Dict[str, Any]) -> Dict[str, Tuple[str, dict]]:
    """Finds the teachers of a distiller: name -> config key and spec."""
    found = {
        name[: -len('_teacher')]: (f'model.{name}', spec)
        for name, spec in model.items()
        if name.endswith('_teacher')
    }
    if 'teacher' in model:
        found['teacher'] = ('model.teacher', model['teacher'])
    for name, spec in (model.get('teachers') or {}).items():
        found[name] = (f'model.teachers.{name}', spec)
    return {n: (k, s) for n, (k, s) in found.items() if isinstance(s, dict)}


def build_model(config: Config, args: argparse.Namespace) -> ProbedModel:
    """Builds the recognizer to probe.

    Raises:
        ValueError: If ``--teacher`` names none of a distiller's teachers.
    """
    specs = teacher_specs(config.model)
    if 'student' not in config.model:
        weights = args.weights or config.get('load_from')
        return ProbedModel(config, weights, device=get_device())
    name = args.teacher or next(iter(specs), None)
    if name not in specs or (args.teacher is None and len(specs) > 1):
        raise ValueError(
            f'--teacher {args.teacher}: choose one of the teachers of '
            f'{args.config}: {list(specs)}.'
        )
    key, spec = specs[name]
    model = load_config(spec, key)
    student = load_config(config.model.student, 'model.student')
    classes = config.model.get('num_classes') or (
        student.model.cls_head.num_classes
    )
    set_num_classes(model.model, classes)
    weights = args.weights or spec.get('checkpoint')
    probed = ProbedModel(model, weights, key, device=get_device())
    probed.view = ClipView(
        **(spec.get('view') or {}),
        fold_frames=isinstance(probed.recognizer, Recognizer2D),
        key=key,
    )
    return probed


def describe_clips(dataset: Any) -> Tuple[List[str], List[int]]:
    """Returns paths and labels of the clips of a data set.

    Raises:
        ValueError: If clips have several labels.
    """
    names, labels = [], []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        names.append(str(info.get('filename') or info.get('frame_dir', '')))
        labels.append(info.get('label', -1))
    several = [
        n for n, label in zip(names, labels) if not isinstance(label, int)
    ]
    if several:
        raise ValueError(
            f'{len(several)} clips have no single label, such as '
            f'{several[0]}. Only classifiers with one label per clip can be '
            'probed.'
        )
    return names, labels


def training_split(config: Config, centred: bool) -> Split:
    """Returns the training list, with views that depend on a key alone.

    Args:
        config (Config): The config.
        centred (bool): Whether the views are without randomness.
    """
    outer = config.train_dataloader.dataset
    inner = innermost(outer)
    if centred:
        inner = dict(inner, pipeline=centre_pipeline(inner.pipeline))
    wrapped = dict(type='KeyedViewDataset', dataset=inner)
    if outer.type == 'KeyedViewDataset':
        wrapped['seed'] = outer.get('seed', 0)
    dataset = DATASETS.build(wrapped)
    dataset.full_init()
    description = describe_data(dataset, wrapped, FORMAT)
    return Split(dataset, True, description, *describe_clips(dataset.dataset))


def validation_split(config: Config) -> Split:
    """Returns the validation list; shared clips for a distillation config."""
    shared = 'student' in config.model
    if shared:
        # the training pipeline without randomness
        dataset = centred_dataset(config, 'val')
        pipeline = innermost(config.train_dataloader.dataset).pipeline
    else:
        dataset = DATASETS.build(config.val_dataloader.dataset)
        pipeline = innermost(config.val_dataloader.dataset).pipeline
    dataset.full_init()
    description = dict(
        clips=clips_digest(dataset), centred=shared, pipeline=pipeline
    )
    return Split(dataset, False, description, *describe_clips(dataset))


def joined(first: Embedded, second: Embedded) -> Embedded:
    """Concatenates embeddings."""
    return Embedded(
        torch.cat([first.features, second.features]),
        torch.cat([first.labels, second.labels]),
        first.clips + second.clips,
    )


def embed_split(
    model: ProbedModel,
    split: Split,
    views: int,
    title: str,
    args: argparse.Namespace,
) -> Embedded:
    """Computes the embeddings of the labelled clips of a list.

    Args:
        model (ProbedModel): The frozen model.
        split (Split): The list.
        views (int): Views of each clip.
        title (str): Name of the list in messages.
        args (argparse.Namespace): Options of the tool.

    Raises:
        ValueError: If no clip has a label, or a label is too large.
    """
    labelled = [i for i, label in enumerate(split.labels) if label >= 0]
    if not labelled:
        raise ValueError(f'The list has no clip with a label ({title}).')
    largest = max(split.labels)
    if largest >= model.num_classes:
        raise ValueError(
            f'The list has the label {largest} ({title}), but '
            f'{model.key}.cls_head.num_classes={model.num_classes}.'
        )
    keys = [(i, view) for view in range(views) for i in labelled]
    folder = args.embeddings or osp.splitext(args.out)[0] + '.embeddings'
    store = EmbeddingStore(
        folder, dict(model=model.describe(), clips=split.description)
    )
    missing = store.missing(keys)
    with Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ) as progress:
        total = len(keys)
        done = total - sum(map(len, missing))
        task = progress.add_task(title, total=total, completed=done)
        for count in store.compute(
            missing,
            model.embed,
            split.dataset,
            split.keyed,
            args.batch_size,
            args.workers,
        ):
            progress.advance(task, count)
    features, found = store.read(keys)
    clips = [index for index, _ in found]
    return Embedded(
        torch.from_numpy(features),
        torch.tensor([split.labels[index] for index in clips]),
        clips,
    )


def groups_of_clips(
    split: Split, clips: List[int], num_classes: int, pattern: Optional[str]
) -> List[str]:
    """Returns the group of each clip; warns if groups seem to be missing."""
    names = [split.names[index] for index in clips]
    if pattern is not None:
        return group_names(names, pattern)
    if looks_grouped(names, num_classes):
        warnings.warn(
            f'Names such as {names[0]} suggest that several clips have one '
            'source. Cross-validation that splits them chooses too weak a '
            'regularisation: give the pattern of the source with --group-by '
            "(UCF101: '_g(\\d+)_').",
            stacklevel=2,
        )
    return names


def fit_classifier(
    trained: Embedded, groups: List[str], num_classes: int
) -> Tuple[LinearClassifier, Dict[str, Any]]:
    """Chooses the regularisation and fits the classifier.

    Args:
        trained (Embedded): The training list.
        groups (list[str]): Group of each row of it.
        num_classes (int): Number of classes.

    Returns:
        tuple[LinearClassifier, dict]: The classifier, and the results of
            cross-validation.
    """
    rows_per_clip = trained.features.shape[1]
    features = trained.features.flatten(0, 1)
    labels = trained.labels.repeat_interleave(rows_per_clip)
    folds = torch.from_numpy(make_folds(groups, trained.labels, FOLDS))
    folds = folds.repeat_interleave(rows_per_clip)
    results = cross_validate(features, labels, num_classes, folds, STRENGTHS)
    best = min(results, key=lambda result: result.log_loss)
    print(
        f'cross-validation: {int(folds.max()) + 1} folds, '
        f'{len(set(groups))} groups\n'
        'regularisation  accuracy  log loss'
    )
    for result in results:
        print(
            f'{result.strength:14.1e}  {result.accuracy:7.1%}  '
            f'{result.log_loss:8.4f}{"  <- chosen" if result is best else ""}'
        )
    standardise = Standardiser.of(features)
    classifier = None
    for strength in sorted(STRENGTHS, reverse=True):
        classifier = fit(
            standardise(features), labels, num_classes, strength, classifier
        )
        if strength == best.strength:
            break
    chosen = dict(
        regularisation=best.strength,
        cross_validation_accuracy=best.accuracy,
        cross_validation_log_loss=best.log_loss,
        groups=len(set(groups)),
    )
    return standardise.absorb(classifier), chosen


def evaluate(
    model: ProbedModel, classifier: LinearClassifier, split: Embedded
) -> Dict[str, float]:
    """Measures a classifier on clips: top-1 accuracy and log loss."""
    logits = model.average(classifier.logits(split.features))
    correct = logits.argmax(dim=1) == split.labels
    return dict(
        accuracy=float(correct.double().mean()),
        log_loss=log_loss(logits, split.labels),
    )


def main(argv: Optional[List[str]] = None) -> None:
    """Runs the tool."""
    args = parse_args(argv)
    begun = time.perf_counter()
    config = read_config(args)
    try:
        run(config, args, begun)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from error


def run(config: Config, args: argparse.Namespace, begun: float) -> None:
    """Embeds, fits, evaluates and writes."""
    model = build_model(config, args)
    training = training_split(config, centred=True)
    trained = embed_split(model, training, 1, 'training', args)
    if args.views:
        split = training_split(config, centred=False)
        views = embed_split(model, split, args.views, 'random views', args)
        trained = joined(trained, views)
    validation = validation_split(config)
    validated = embed_split(model, validation, 1, 'validation', args)
    embedded = time.perf_counter()

    groups = groups_of_clips(
        training, trained.clips, model.num_classes, args.group_by
    )
    classifier, chosen = fit_classifier(trained, groups, model.num_classes)
    measured = evaluate(model, classifier, validated)
    clips = len(set(trained.clips))
    most_frequent = max(Counter(validated.labels.tolist()).values())
    chance = most_frequent / len(validated.labels)
    probe = dict(
        chosen,
        config=args.config,
        training_clips=clips,
        views=args.views,
        group_by=args.group_by,
        training_accuracy=evaluate(model, classifier, trained)['accuracy'],
        validation_accuracy=measured['accuracy'],
        validation_log_loss=measured['log_loss'],
        validation_clips=len(validated.labels),
        chance=chance,
    )
    model.set_classifier(classifier.weight, classifier.bias)
    write_checkpoint(model, args.out, dict(probe=probe))
    print(
        f'fitted on {clips} clips, 1 centred and {args.views} random views '
        f'each: training accuracy {probe["training_accuracy"]:.1%}\n'
        f'validation accuracy {measured["accuracy"]:.1%} of '
        f'{len(validated.labels)} clips (always the most frequent class: '
        f'{chance:.1%}), log loss {measured["log_loss"]:.3f}\n'
        f'written: {args.out}; {embedded - begun:.0f} s for embeddings, '
        f'{time.perf_counter() - embedded:.0f} s for the fit'
    )


def write_checkpoint(
    model: ProbedModel, path: str, meta: Dict[str, Any]
) -> None:
    """Writes the whole recognizer as a stock checkpoint."""
    meta = dict(
        meta, dtkd_mmaction=__version__, time=time.strftime('%Y-%m-%d %H:%M')
    )
    state = {n: v.cpu() for n, v in model.recognizer.state_dict().items()}
    with atomic_file(path) as file:
        torch.save(dict(meta=meta, state_dict=state), file)


if __name__ == '__main__':
    main()
