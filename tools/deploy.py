"""Writes a student as files that run without PyTorch, and compares them.

    python tools/deploy.py work_dirs/my_run --out deployed --int8 --openvino

STUDENT is an exported student, a checkpoint of MMAction2 or of a distiller,
or the folder of a run. The folder DIR gets the ONNX file, with ``--int8`` a
quantised one, with ``--openvino`` OpenVINO's files, and one table of the
accuracy, the size and the speed of each: ``deploy.md`` and ``deploy.json``.
"""

import argparse
import os
import os.path as osp
import sys
from typing import List, Optional

import torch
from deploying.clips import PARTS, Clips
from deploying.table import as_dict, losers, markdown
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import save_checkpoint
from prediction.student import Student, StudentError, load_student

from dtkd_mmaction.compat import CheckpointError
from dtkd_mmaction.deployment import (
    Comparison,
    ExportError,
    compare,
    export_onnx,
    export_stream_onnx,
    quantise_onnx,
)
from dtkd_mmaction.deployment.clip_classifier import (
    ClipClassifier,
    ClipShape,
    clip_shape_of,
)
from dtkd_mmaction.deployment.comparison import runtime_rows
from dtkd_mmaction.deployment.optional_packages import optional_package
from dtkd_mmaction.deployment.runtimes import (
    OnnxRuntime,
    OpenVinoRuntime,
    Runtime,
    TorchRuntime,
    write_openvino,
)
from dtkd_mmaction.files import write_json, write_text

NORMALISE, SOFTMAX = 'normalise', 'softmax'


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('student', metavar='STUDENT')
    parser.add_argument('--out', required=True, metavar='DIR')
    parser.add_argument(
        '--config', help='config of a checkpoint that does not hold its own'
    )
    parser.add_argument(
        '--pipeline',
        choices=PARTS,
        help='whose clips the model gets: those of val_dataloader, the\n'
        'default, or the clips and crops of test_dataloader',
    )
    parser.add_argument(
        '--include',
        nargs='+',
        choices=(NORMALISE, SOFTMAX),
        default=[],
        help='parts to put into the graph: uint8 frames in, probabilities out',
    )
    parser.add_argument(
        '--batch', type=int, help='fixed batch size; default: any'
    )
    parser.add_argument('--int8', action='store_true', help='quantise, too')
    parser.add_argument(
        '--reduce-range',
        action='store_true',
        help='quantise weights to 7 bits, for processors without VNNI;\n'
        'default: only if this processor has none',
    )
    parser.add_argument(
        '--calibration-clips', type=int, default=128, metavar='N'
    )
    parser.add_argument(
        '--train-list',
        help='list for the calibration, if the config names none',
    )
    parser.add_argument(
        '--openvino', action='store_true', help='convert to OpenVINO, too'
    )
    parser.add_argument(
        '--stream',
        action='store_true',
        help='write one step of a causal MoViNet, too: one frame at a time',
    )
    parser.add_argument('--classes', help='file with one class name per line')
    parser.add_argument(
        '--val-clips',
        type=int,
        metavar='N',
        help='compare on N videos of the list; default: all',
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--rounds', type=int, default=20, help='timed calls per runtime'
    )
    parser.add_argument(
        '--max-drop',
        type=float,
        default=1.0,
        metavar='POINTS',
        help='fail if a file loses more percentage points (default: 1)',
    )
    args = parser.parse_args()
    for name in (
        'batch',
        'calibration_clips',
        'val_clips',
        'threads',
        'rounds',
    ):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace('_', '-')
            parser.error(f'--{option} {value}: give 1 or more.')
    return args


def write_files(
    args: argparse.Namespace,
    student: Student,
    clips: Clips,
    shape: ClipShape,
    names: Optional[List[str]],
) -> List[Runtime]:
    """Writes the requested files and returns what runs each of them."""
    normalise, softmax = NORMALISE in args.include, SOFTMAX in args.include
    if names:
        student.checkpoint['meta']['dataset_meta'] = dict(classes=names)
    onnx_file = osp.join(args.out, 'student.onnx')
    say(f'Exporting {onnx_file} ...')
    options = dict(
        normalise=normalise,
        softmax=softmax,
        class_names=names,
        pipeline=clips.pipeline,
    )
    export_onnx(
        student.recognizer, shape, onnx_file, batch=args.batch, **options
    )
    if args.stream:
        stream_file = osp.join(args.out, 'student_stream.onnx')
        say(f'Exporting {stream_file} ...')
        export_stream_onnx(student.recognizer, shape, stream_file, **options)
    checkpoint = osp.join(args.out, 'student.pth')
    save_checkpoint(
        student.checkpoint,
        checkpoint,
        backend_args=dict(backend='atomic_local'),
    )
    runtimes: List[Runtime] = [
        TorchRuntime(
            ClipClassifier(student.recognizer, normalise, softmax),
            checkpoint,
            args.threads,
            channels_last,
        )
        for channels_last in (False, True)
    ]
    runtimes.append(OnnxRuntime(onnx_file, args.threads))
    if args.openvino:
        xml, _ = write_openvino(onnx_file, osp.join(args.out, 'student.xml'))
        runtimes.append(OpenVinoRuntime(xml, args.threads))
    if args.int8:
        int8_file = osp.join(args.out, 'student_int8.onnx')
        say(f'Quantising {int8_file} ...')
        batches = (
            rows[start : start + (args.batch or 1)]
            for sample in clips.training(args.calibration_clips)
            for rows in [
                runtime_rows(student.recognizer, sample, shape, normalise)
            ]
            for start in range(0, len(rows), args.batch or 1)
            if start + (args.batch or 1) <= len(rows)
        )
        quantise_onnx(onnx_file, batches, int8_file, args.reduce_range or None)
        runtimes.append(
            OnnxRuntime(int8_file, args.threads, 'onnxruntime int8')
        )
        if args.openvino:
            runtimes.append(
                OpenVinoRuntime(int8_file, args.threads, 'OpenVINO int8')
            )
    return runtimes


def report(
    args: argparse.Namespace,
    clips: Clips,
    shape: ClipShape,
    results: List[Comparison],
) -> None:
    """Prints and writes the table."""
    videos = 'all' if args.val_clips is None else f'{args.val_clips}'
    metric = next(iter(results[0].metrics), 'accuracy')
    text = f"""{markdown(results)}

top-1 is `{metric}` on {videos} videos of `{clips.part}_dataloader`. Agreement
and largest difference of a probability are those with the stock model in
PyTorch. Latency: median and 95th percentile of {args.rounds} calls with one
clip of {shape}; {args.threads} thread(s). clips/s: in batches.
"""
    print(text)
    write_text(osp.join(args.out, 'deploy.md'), text)
    write_json(
        osp.join(args.out, 'deploy.json'),
        dict(
            student=args.student,
            metric=metric,
            videos=videos,
            part=clips.part,
            clip_shape=list(shape),
            threads=args.threads,
            rounds=args.rounds,
            rows=[as_dict(result) for result in results],
        ),
    )


def say(text: str) -> None:
    """Tells what is being done; the table alone goes to stdout."""
    print(text, file=sys.stderr)


def main() -> None:
    """Runs the command."""
    args = parse_args()
    # MMEngine logs to stdout, where the table goes.
    MMLogger.get_current_instance().setLevel('ERROR')
    torch.set_num_threads(args.threads)
    try:
        for name in ('onnx', 'onnxscript', 'onnxruntime'):
            optional_package(name)
        if args.openvino:
            optional_package('openvino')
        student = load_student(args.student, args.config)
        clips = Clips(student, args.pipeline, args.train_list)
        first = next(clips.validation(1), None)
        if first is None:
            raise StudentError(f'{clips.part}_dataloader: the list is empty.')
        shape = clip_shape_of(student.recognizer, first['inputs'])
        names = clips.class_names(args.classes)
        os.makedirs(args.out, exist_ok=True)
        runtimes = write_files(args, student, clips, shape, names)
        say('Comparing on the validation list ...')
        results = compare(
            student.recognizer,
            runtimes,
            clips.validation(args.val_clips),
            shape,
            normalise=NORMALISE in args.include,
            softmax=SOFTMAX in args.include,
            evaluator=clips.evaluator(),
            rounds=args.rounds,
        )
    except (
        CheckpointError,
        ExportError,
        ImportError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        raise SystemExit(f'deploy.py: {error}') from error
    report(args, clips, shape, results)
    problems = losers(results, args.max_drop)
    if problems:
        raise SystemExit('\n'.join(problems))


if __name__ == '__main__':
    main()
