"""Parts of ``tools/predict.py`` and ``tools/deploy.py``.

``frames``, ``pipeline``, ``scores``, ``onnx_model``, ``windows`` and
``camera`` import neither PyTorch nor this package: with ``predict.py`` they
are all that an ONNX file needs.
"""
