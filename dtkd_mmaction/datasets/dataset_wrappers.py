"""Handles MMEngine's data set wrappers, such as ``RepeatDataset``."""

from typing import Any, List, Tuple

from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
)

WRAPPERS = (ClassBalancedDataset, ConcatDataset, RepeatDataset)
KEYED = 'KeyedViewDataset'


def base_datasets(dataset: Any) -> List[Any]:
    """Lists the data sets inside all wrappers, in order."""
    if isinstance(dataset, ConcatDataset):
        return [
            leaf for part in dataset.datasets for leaf in base_datasets(part)
        ]
    if isinstance(dataset, WRAPPERS):
        return base_datasets(dataset.dataset)
    return [dataset]


def find_sample(dataset: Any, index: int) -> Tuple[BaseDataset, int]:
    """Finds the data set that holds a sample, and its index there.

    Args:
        dataset: A data set, or wrappers around it.
        index (int): Index in the outermost wrapper.
    """
    while isinstance(dataset, WRAPPERS):
        if isinstance(dataset, ConcatDataset):
            part, index = dataset._get_ori_dataset_idx(index)
            dataset = dataset.datasets[part]
        else:
            index = dataset._get_ori_dataset_idx(index)
            dataset = dataset.dataset
    return dataset, index


def base_configs(config: dict) -> List[dict]:
    """Lists the configs of the data sets inside all wrappers, in order."""
    if 'datasets' in config:
        return [leaf for c in config['datasets'] for leaf in base_configs(c)]
    if 'dataset' in config:
        return base_configs(config['dataset'])
    return [config]


def is_keyed(config: dict) -> bool:
    """Returns whether a config is that of a ``KeyedViewDataset``."""
    name = config.get('type')
    name = name if isinstance(name, str) else getattr(name, '__name__', '')
    return name.split('.')[-1] == KEYED


def keyed_outside(config: dict, key: str = 'train_dataloader.dataset') -> dict:
    """Moves ``KeyedViewDataset`` outside of the wrappers around it.

    A wrapper passes on plain sample indices, so a ``KeyedViewDataset`` inside
    it would not receive the number of the view. Outside, it treats every
    repetition of a sample as a separate sample with its own views.

    Args:
        config (dict): Config of a training set.
        key (str): Its config key, for messages.

    Returns:
        dict: The new config, or the same one if there is nothing to move.

    Raises:
        ValueError: For joined data sets with different options.
    """
    if is_keyed(config):
        return config
    if 'datasets' in config:
        return _keyed_outside_of_several(config, key)
    if not isinstance(config.get('dataset'), dict):
        return config
    inner = keyed_outside(config['dataset'], f'{key}.dataset')
    if not is_keyed(inner):
        return config
    return dict(inner, dataset=dict(config, dataset=inner['dataset']))


def _keyed_outside_of_several(config: dict, key: str) -> dict:
    parts = [
        keyed_outside(part, f'{key}.datasets.{i}')
        for i, part in enumerate(config['datasets'])
    ]
    if not any(map(is_keyed, parts)):
        return config
    options = [
        {name: value for name, value in part.items() if name != 'dataset'}
        if is_keyed(part)
        else part['type']
        for part in parts
    ]
    for i, other in enumerate(options):
        if other != options[0]:
            raise ValueError(
                f'{key}.datasets.{i} is {other}, {key}.datasets.0 is '
                f'{options[0]}. All joined data sets must have the same '
                f'{KEYED}. Write one around all of them: {key}=dict(type='
                f"'{KEYED}', dataset=dict(type='ConcatDataset', "
                'datasets=[...])).'
            )
    inside = dict(config, datasets=[part['dataset'] for part in parts])
    return dict(parts[0], dataset=inside)
