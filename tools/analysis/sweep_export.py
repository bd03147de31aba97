"""Tries to export every RGB model that MMAction2 ships to ONNX.

    python tools/analysis/sweep_export.py --out docs/exportable_models.md \\
        --json docs/exportable_models.json

Each architecture of MMAction2's configs is exported with random weights and
small clips, for any batch and, if that fails, for one clip at a time. The file
is checked by onnx and compared with PyTorch in onnxruntime. With ``--json`` a
sweep goes on where it was interrupted. Needs no network and no data.
"""

import argparse
import gc
import os.path as osp
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Dict, List, Optional

from mmengine.config import Config
from mmengine.logging import MMLogger
from sweep_upstream import (
    FRAMES,
    SIZE,
    Case,
    first_line,
    more_cases,
    package_versions,
    shipped_cases,
)

from dtkd_mmaction.deployment import export_onnx
from dtkd_mmaction.deployment.clip_classifier import ClipShape
from dtkd_mmaction.files import read_json, write_json, write_text
from dtkd_mmaction.recognizers.model_spec import build_recognizer

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
MOVINET = osp.join(ROOT, 'configs/_base_/models/movinet_a2.py')
ANY, ONE = 'any', '1'


@dataclass
class Outcome:
    """One architecture and how it was exported.

    Attributes:
        family (str): Folder of its config, or the package of its backbone.
        name (str): Of its config.
        others (int): Further configs of the same architecture.
        clip (str): Shape of a clip.
        batch (str): Batch sizes that the graph takes; empty if there is none.
        megabytes (float): Size of the file.
        seconds (float): Duration of the export.
        reason (str): Why there is no graph, or none for any batch.
    """

    family: str
    name: str
    others: int
    clip: str
    batch: str = ''
    megabytes: float = 0.0
    seconds: float = 0.0
    reason: str = ''


def movinet_cases(families: Optional[List[str]]) -> List[Case]:
    """Makes cases of this package's own backbone, causal and not."""
    if families and 'movinet' not in families:
        return []
    cases = []
    for causal in (False, True):
        model = Config.fromfile(MOVINET).model
        model.backbone.causal = causal
        name = 'movinet_a2 causal' if causal else 'movinet_a2'
        view = dict(frames=FRAMES, size=SIZE)
        cases.append(Case('movinet', name, {}, model, view))
    return cases


def try_export(case: Case) -> Outcome:
    """Exports one architecture."""
    frames, size = case.view['frames'], case.view['size']
    shape: ClipShape = (3, frames, size, size)
    if case.model['type'] == 'Recognizer2D':
        shape = (frames, 3, size, size)
    outcome = Outcome(
        case.family, case.name, len(case.others), 'x'.join(map(str, shape))
    )
    started = time.perf_counter()
    try:
        recognizer = build_recognizer(Config(dict(model=case.model)), 'model')
    except Exception as error:
        outcome.reason = first_line(error)
        return outcome
    for batch, name in ((None, ANY), (1, ONE)):
        with tempfile.TemporaryDirectory() as folder:
            path = osp.join(folder, 'model.onnx')
            try:
                export_onnx(recognizer.eval(), shape, path, batch=batch)
            except Exception as error:
                outcome.reason = first_line(error).replace(f'{path}: ', '')
                continue
            outcome.batch = name
            outcome.megabytes = round(osp.getsize(path) / 1e6, 1)
            break
    outcome.seconds = round(time.perf_counter() - started, 1)
    return outcome


def markdown(outcomes: List[Outcome], untried: List[str]) -> str:
    """Writes the page."""
    reasons: List[str] = []
    rows = []
    for outcome in outcomes:
        batch = outcome.batch or 'no'
        if outcome.reason:
            reasons.append(f'`{outcome.name}`: {outcome.reason}')
            batch += f' ({len(reasons)})'
        more = f' +{outcome.others}' if outcome.others else ''
        size = f'{outcome.megabytes:.1f}' if outcome.batch else ''
        rows.append(
            f'| {outcome.family} | {outcome.name}{more} | {outcome.clip} | '
            f'{batch} | {size} | {outcome.seconds:.0f} |'
        )
    good = sum(bool(outcome.batch) for outcome in outcomes)
    versions = ', '.join(f'{name} {v}' for name, v in package_versions())
    numbered = [f'{i}. {text}' for i, text in enumerate(reasons, start=1)]
    lines = '\n'.join(rows)
    nothing = 'All were.'
    return f"""# Which models can be exported to ONNX

`export_onnx` wrote {good} of {len(outcomes)} architectures that were tried, of
MMAction2's RGB configs, MoViNet, and TSN with backbones of other packages.
Each had random weights and the clip shown. The graph passed the checks of
onnx, and its logits in onnxruntime were those of PyTorch.

- **model**: name of the config; +n: n more have the same architecture.
- **batch**: `any`, or `1` where the graph takes one clip at a time.

Made by

    python {' '.join(sys.argv)}

with {versions}.

| family | model | clip | batch | MB | seconds |
|---|---|---|---|---|---|
{lines}

## Why not

{chr(10).join(numbered) or nothing}

## Not tried

{chr(10).join(f'- `{name}`' for name in untried) or nothing}
"""


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--family', nargs='+', help='families to try; default: all'
    )
    parser.add_argument(
        '--first',
        action='store_true',
        help='try one architecture per family only',
    )
    parser.add_argument('--out', help='Markdown file')
    parser.add_argument('--json', help='JSON file with all results so far')
    return parser.parse_args()


def recall(path: Optional[str]) -> Dict[str, Outcome]:
    """Reads the results of an earlier sweep."""
    if path is None or not osp.isfile(path):
        return {}
    return {entry['name']: Outcome(**entry) for entry in read_json(path, list)}


def main() -> None:
    """Tries all models and prints each result."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    cases = [
        *movinet_cases(args.family),
        *shipped_cases(args.family),
        *more_cases(args.family),
    ]
    if not cases:
        raise SystemExit(f'--family {args.family}: there is no such family.')
    families = [case.family for case in cases]
    rank = [families[:i].count(family) for i, family in enumerate(families)]
    # One model of every family first.
    order = sorted(range(len(cases)), key=rank.__getitem__)
    names = [case.name for case in cases]
    known = recall(args.json)
    for case in (cases[i] for i in order if not args.first or not rank[i]):
        if case.name in known:
            continue
        outcome = try_export(case)
        known[case.name] = outcome
        gc.collect()
        print(
            f'{outcome.family} | {outcome.name} | {outcome.clip} | '
            f'{outcome.batch or "no"} | {outcome.seconds} s | '
            f'{outcome.reason}',
            flush=True,
        )
        write(args, known, names)
    write(args, known, names)


def write(
    args: argparse.Namespace, known: Dict[str, Outcome], names: List[str]
) -> None:
    """Writes the requested files with the results so far."""
    if args.json:
        write_json(args.json, [asdict(o) for o in known.values()], 1)
    if args.out:
        outcomes = sorted(known.values(), key=lambda o: (o.family, o.name))
        untried = [name for name in names if name not in known]
        write_text(args.out, markdown(outcomes, untried))


if __name__ == '__main__':
    main()
