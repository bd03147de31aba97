"""Runs checks between the config of a run and its first step."""

import functools
from typing import Any, Callable

from mmengine.runner import Runner

from ._patching import wrap


def check_runs(
    before_train: Callable[[Runner], None],
    explain: Callable[[dict, Exception], Exception],
) -> None:
    """Lets every run of MMEngine be checked, whatever script starts it.

    MMEngine calls hooks only after models, hooks and data sets are built, and
    the first of them that fails hides the other problems of a config. This
    wraps two methods of ``Runner``, once.

    Args:
        before_train (callable): Gets the runner when ``train`` is called,
            before it builds data sets or loads teachers.
        explain (callable): Gets the config and the error when a runner cannot
            be built; returns the error to raise.
    """

    def make_train(upstream: Callable) -> Callable:
        def train(self):
            before_train(self)
            return upstream(self)

        return train

    wrap(Runner, 'train', make_train)
    upstream = Runner.__dict__['from_cfg'].__func__
    if not hasattr(upstream, '_dtkd_upstream'):

        @functools.wraps(upstream)
        def from_cfg(cls, cfg):
            try:
                return upstream(cls, cfg)
            except Exception as error:
                explained = explain(cfg, error)
                if explained is error:
                    raise
                raise explained from error

        marked: Any = from_cfg
        marked._dtkd_upstream = upstream
        Runner.from_cfg = classmethod(marked)
