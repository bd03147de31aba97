"""Says what videos show: classes and scores, by a student or its ONNX file.

    python tools/predict.py deployed/student.onnx clip.mp4 other.avi
    python tools/predict.py student.pth long_video.mp4 --window 2
    python tools/predict.py deployed/student.onnx --camera 0

MODEL is a file of ``tools/deploy.py`` (``.onnx``), which needs onnxruntime,
NumPy and decord or OpenCV, but not PyTorch; or an exported student, a
checkpoint or the folder of a run.
"""

import argparse
import json
import sys
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from prediction.camera import clip_by_clip, frame_by_frame
from prediction.frames import Stream, Video, VideoError
from prediction.onnx_model import ModelError, open_onnx
from prediction.pipeline import PipelineError
from prediction.scores import top_classes
from prediction.windows import clock, segments, video_scores, window_scores


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('model', metavar='MODEL')
    parser.add_argument('videos', metavar='VIDEO', nargs='*')
    parser.add_argument('--config', help='config of a checkpoint without one')
    parser.add_argument(
        '--top', type=int, default=5, help='classes per answer (default: 5)'
    )
    parser.add_argument(
        '--json', action='store_true', help='print one JSON line per answer'
    )
    parser.add_argument(
        '--window',
        type=float,
        metavar='SECONDS',
        help='answer for each window of a video and print a time line;\n'
        'of a camera: what an answer looks back to',
    )
    parser.add_argument(
        '--stride',
        type=float,
        metavar='SECONDS',
        help='from one window to the next; default: the window, of a camera\n'
        'half of it',
    )
    parser.add_argument(
        '--camera',
        metavar='SOURCE',
        help='number of a camera, URL of a stream, or a file to play',
    )
    parser.add_argument(
        '--fps', type=float, help='of a camera that does not state it'
    )
    parser.add_argument('--threads', type=int)
    args = parser.parse_args()
    if bool(args.videos) == (args.camera is not None):
        parser.error('name videos, or one --camera.')
    for name in ('top', 'window', 'stride', 'fps', 'threads'):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f'--{name} {value}: give a number above 0.')
    return args


def load_model(args: argparse.Namespace) -> Any:
    """Returns a model with ``scores``, ``pipeline`` and ``class_names``.

    Only a checkpoint imports PyTorch.
    """
    if args.model.endswith('.onnx'):
        return open_onnx(args.model, args.threads)
    from prediction.torch_model import open_checkpoint

    streams = args.camera is not None
    return open_checkpoint(args.model, args.config, args.threads, streams)


class Printer:
    """Prints answers as text or as lines of JSON.

    Args:
        model: Has ``class_names`` and ``class_counts``.
        args (argparse.Namespace): ``top`` and ``json``.
    """

    def __init__(self, model: Any, args: argparse.Namespace) -> None:
        self._top = args.top
        self._json = args.json
        self._counts = model.class_counts
        self.names: List[str] = model.class_names or [
            str(label) for label in range(sum(self._counts))
        ]

    def top(self, scores: np.ndarray) -> List[Dict[str, Any]]:
        """Returns the best classes."""
        return top_classes(scores, self._top, self.names, self._counts)

    def video(self, path: str, scores: np.ndarray) -> None:
        """Prints the answer for a whole video."""
        if self._json:
            print_json(video=path, top=self.top(scores))
            return
        print(path)
        for entry in self.top(scores):
            print(f'  {entry["score"]:6.3f}  {entry["name"]}')

    def windows(self, path: str, windows: list) -> None:
        """Prints the time line of a video."""
        line = segments(windows, self.names[: self._counts[0]])
        if self._json:
            rows = [
                dict(start=w.start, end=w.end, top=self.top(w.scores))
                for w in windows
            ]
            print_json(video=path, segments=line, windows=rows)
            return
        print(path)
        for part in line:
            span = f'{clock(part["start"])} - {clock(part["end"])}'
            print(f'  {span:>18}  {part["score"]:6.3f}  {part["name"]}')

    def moment(self, seconds: float, scores: np.ndarray) -> None:
        """Prints the answer for the latest frames of a stream."""
        if self._json:
            print_json(time=seconds, top=self.top(scores))
            return
        best = [f'{e["name"]} {e["score"]:.3f}' for e in self.top(scores)]
        print(f'{clock(seconds):>8}  {"  ".join(best)}', flush=True)


def print_json(**content: Any) -> None:
    """Prints one line."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


def watch(model: Any, args: argparse.Namespace, printer: Printer) -> None:
    """Answers for a camera until it ends."""
    frames = Stream(args.camera)
    fps = args.fps or frames.fps or 25.0
    answers: Iterator[Tuple[float, np.ndarray]]
    if hasattr(model, 'push'):
        answers = frame_by_frame(model, frames, fps, args.window)
    else:
        answers = clip_by_clip(model, frames, fps, args.window, args.stride)
    for seconds, scores in answers:
        printer.moment(seconds, scores)


def answer(
    model: Any, path: str, args: argparse.Namespace, printer: Printer
) -> None:
    """Answers for one video."""
    video = Video(path, model.pipeline.in_order)
    if args.window is None:
        printer.video(path, video_scores(model, video))
        return
    stride = args.stride or args.window
    printer.windows(path, window_scores(model, video, args.window, stride))


def main() -> None:
    """Runs the command."""
    args = parse_args()
    try:
        model = load_model(args)
        printer = Printer(model, args)
        if args.camera is not None:
            watch(model, args, printer)
            return
    except KeyboardInterrupt:
        return
    except (ModelError, PipelineError, VideoError) as error:
        raise SystemExit(f'predict.py: {error}') from error
    failed = False
    for path in args.videos:
        try:
            answer(model, path, args, printer)
        except (ModelError, VideoError) as error:
            failed = True
            if args.json:
                print_json(video=path, error=str(error))
            print(f'predict.py: {error}', file=sys.stderr)
    if failed:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
