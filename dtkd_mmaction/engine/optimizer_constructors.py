"""MMAction2's optimizer constructors, for the student of a distiller.

These constructors depend on the modules of one recognizer: TSM's treats the
first convolution and the last layer separately, the layer decay of MViT and
ViT reads ``model.backbone``. On a distiller they would count its other
modules, such as the branch, or fail. The classes here apply them to the
student and train everything else at the learning rate of the config. They
replace the stock ones under their names and handle every other model as the
stock ones do.
"""

from typing import List, Type

import torch.nn as nn
from mmaction.engine.optimizers import (
    LearningRateDecayOptimizerConstructor,
    SwinOptimWrapperConstructor,
    TSMOptimWrapperConstructor,
)
from mmaction.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor

from ..distillers.base import BaseDistiller


def student_first(
    stock: Type[DefaultOptimWrapperConstructor],
) -> Type[DefaultOptimWrapperConstructor]:
    """Returns a constructor that applies a stock one to the student."""

    class StudentOptimWrapperConstructor(stock):
        def add_params(
            self, params: List[dict], module: nn.Module, **kwargs
        ) -> None:
            """Adds the student's groups, then one group of all others."""
            if not isinstance(module, BaseDistiller):
                super().add_params(params, module, **kwargs)
                return
            super().add_params(params, module.student, **kwargs)
            students = {id(p) for p in module.student.parameters()}
            others = {
                name: p
                for name, p in module.named_parameters()
                if p.requires_grad and id(p) not in students
            }
            if not others:
                return
            group = dict(params=list(others.values()), lr=self.base_lr)
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd
            # PyTorch wants names in all groups or in none.
            if any('param_names' in other for other in params):
                group['param_names'] = list(others)
            params.append(group)

    StudentOptimWrapperConstructor.__name__ = stock.__name__
    StudentOptimWrapperConstructor.__doc__ = stock.__doc__
    return StudentOptimWrapperConstructor


for _stock in (
    TSMOptimWrapperConstructor,
    SwinOptimWrapperConstructor,
    LearningRateDecayOptimizerConstructor,
):
    OPTIM_WRAPPER_CONSTRUCTORS.register_module(
        name=_stock.__name__, module=student_first(_stock), force=True
    )
