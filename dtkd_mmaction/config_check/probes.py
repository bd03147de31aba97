"""Models of a config that are built to try their views and taps."""

import copy
from collections.abc import Mapping

from ..recognizers.tapped_recognizer import build_tapped
from .findings import Findings, shown
from .models import ModelOf
from .specs import SpecOf

# Keys of a spec that an error of the trial may name.
TRIED = ('tap', 'stages', 'view')


def check_models(config: Mapping, model: ModelOf, findings: Findings) -> None:
    """Builds every model once, without weights, and tries it on a clip."""
    for spec in model.specs:
        if spec.config is None or findings.errors_below(spec.key):
            continue
        wanted = copy.deepcopy(dict(spec.spec))
        try:
            build_tapped(wanted, config['model'].get('num_classes'), spec.key)
        except Exception as error:
            _report(spec, str(error), findings)


def _report(spec: SpecOf, message: str, findings: Findings) -> None:
    """Adds the error of a trial under the key that it names."""
    for name in TRIED:
        key = f'{spec.key}.{name}'
        if message.startswith(f'{key}: '):
            text = message[len(key) + 2 :]
            findings.error(key, text, shown(spec.spec.get(name)))
            return
    text = message.replace(f'{spec.key}: ', '', 1)
    view = spec.spec.get('view')
    if view and 'cannot take a view' in text:
        findings.error(f'{spec.key}.view', text, shown(dict(view)))
    else:
        findings.error(spec.key, text)
