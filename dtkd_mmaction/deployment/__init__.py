"""What leaves training: the stock student, and files for other runtimes."""

from .comparison import Comparison, compare
from .onnx_export import ExportError, export_onnx
from .onnx_quantisation import quantise_onnx
from .stream_export import export_stream_onnx

__all__ = [
    'Comparison',
    'ExportError',
    'compare',
    'export_onnx',
    'export_stream_onnx',
    'quantise_onnx',
]
