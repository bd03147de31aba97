"""Compares a teacher cache with the run before the first step."""

from typing import List

from mmaction.registry import HOOKS
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..datasets.dataset_wrappers import keyed_outside
from ..datasets.keyed_views import KeyedViewDataset
from ..teachers.cache_fingerprint import (
    as_json,
    describe_data,
    differences,
)


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Refuses a ``model.teacher_cache`` that does not fit the run.

    The teachers are compared when the model is built. This hook compares the
    clips, their pipeline and views, and the outputs that the losses read. It
    does nothing in a run without a cache.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> from mmaction.registry import HOOKS
        >>> hook = HOOKS.build(dict(type='TeacherCacheHook'))
        >>> runner = SimpleNamespace(model=torch.nn.Identity())
        >>> hook.before_train(runner)  # there is no cache to compare
    """

    def before_train(self, runner) -> None:
        """Compares cache and run.

        Raises:
            ValueError: If they differ; the message lists all differences.
        """
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        cache = getattr(model, 'teacher_cache', None)
        if cache is None:
            return
        loader = runner.train_dataloader
        problems = self._data_problems(
            cache,
            loader.dataset,
            keyed_outside(runner.cfg.train_dataloader.dataset),
        )
        if not problems and model.has_open_view():
            sample = pseudo_collate([loader.dataset[0, 0]])
            model.fit_taps(model.data_preprocessor(sample)['inputs'])
        problems += self._quantity_problems(cache, model)
        if problems:
            raise ValueError(
                f'model.teacher_cache={cache.folder!r} does not fit this '
                'run:\n' + '\n'.join(problems)
            )
        cache.data_is_checked = True

    def _data_problems(self, cache, dataset, config: dict) -> List[str]:
        if not isinstance(dataset, KeyedViewDataset):
            return [
                'train_dataloader.dataset.type='
                f'{type(dataset).__name__!r}: a cache needs the repeatable '
                'views of a KeyedViewDataset.'
            ]
        problems = differences(
            cache.manifest['data'],
            describe_data(dataset, config, cache.format),
            'data',
        )
        kept = cache.manifest['views']
        if dataset.views is None or dataset.views > kept:
            problems.append(
                f'train_dataloader.dataset.views={dataset.views}: the cache '
                f'holds {kept} views per sample. Set it to {kept} or less.'
            )
        return problems

    def _quantity_problems(self, cache, model) -> List[str]:
        problems, needed = [], model.teacher_quantities
        for name, quantities in needed.items():
            missing = quantities - cache.quantities(name)
            if missing:
                problems.append(
                    f"the losses read the {name} teacher's "
                    f'{sorted(missing)}; the cache holds '
                    f'{sorted(cache.quantities(name))} '
                    f'(maps={cache.manifest["maps"]!r}). Write one with '
                    '--maps native from this config.'
                )
        maps = cache.manifest['maps']
        if not problems and any('compared_map' in q for q in needed.values()):
            problems += differences(
                cache.manifest['compared_on'],
                as_json(model.cached_map_options(maps)),
                'model.loss_sd',
            )
        return problems
