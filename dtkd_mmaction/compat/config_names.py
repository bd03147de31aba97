"""Makes the configs of this package known to MMEngine."""

from mmengine.config.utils import MODULE2PACKAGE


def configs_by_package_name() -> None:
    """Lets ``'dtkd_mmaction::dtkd/x3d_s_hmdb51.py'`` name a config.

    MMEngine resolves ``<package>::<config>`` in ``_base_``, in model specs
    and in ``mmengine.hub.get_config`` for the packages of a fixed table.
    """
    MODULE2PACKAGE.setdefault('dtkd_mmaction', 'dtkd_mmaction')
