"""Stock head with two sets of classes: verbs and nouns."""

from typing import Dict, Iterator, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmaction.models.heads.base import BaseHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

PARTS = ('verb', 'noun')


@MODELS.register_module()
class VerbNounHead(BaseHead):
    """Stock head whose classes are those of verbs and nouns.

    The stock head computes one tensor of logits (B, V + N). This head applies
    a separate cross-entropy and softmax to each part. A checkpoint of the
    stock head alone is accepted, for example one from Kinetics.

    Args:
        head (dict): Config of the stock head, without ``num_classes``. Its
            ``loss_cls``, ``label_smooth_eps`` and ``average_clips`` hold for
            both parts.
        num_classes (Sequence[int]): V and N; (97, 300) in EPIC-KITCHENS-100.

    Attributes:
        class_counts (dict[str, int]): ``verb`` -> V, ``noun`` -> N.
        num_classes (int): V + N, the width of the logits.
        in_channels (int): Channels of the stock head.
        head (BaseHead): The stock head.

    Raises:
        ValueError: If ``num_classes`` is no pair, or is given to the stock
            head as well.

    Example:
        >>> import torch
        >>> from mmaction.registry import MODELS
        >>> head = MODELS.build(
        ...     dict(
        ...         type='VerbNounHead',
        ...         head=dict(type='I3DHead', in_channels=16),
        ...         num_classes=(97, 300),
        ...     )
        ... )
        >>> head(torch.randn(2, 16, 4, 7, 7)).shape
        torch.Size([2, 397])
    """

    def __init__(self, head: dict, num_classes: Sequence[int]) -> None:
        if isinstance(num_classes, int) or len(num_classes) != 2:
            raise ValueError(
                f'cls_head.num_classes={num_classes!r}: VerbNounHead needs '
                'two numbers, of verbs and of nouns, as (97, 300). A '
                "distiller's model.num_classes sets one for all heads; leave "
                'it out.'
            )
        if 'num_classes' in head:
            raise ValueError(
                f'cls_head.head.num_classes={head["num_classes"]!r}: leave it '
                'out, VerbNounHead sets it to the sum of its num_classes='
                f'{tuple(num_classes)}.'
            )
        stock_head = MODELS.build(dict(head, num_classes=sum(num_classes)))
        super().__init__(
            sum(num_classes),
            stock_head.in_channels,
            loss_cls=head.get('loss_cls', dict(type='CrossEntropyLoss')),
            label_smooth_eps=stock_head.label_smooth_eps,
            average_clips=stock_head.average_clips,
        )
        self.head = stock_head
        self.class_counts = dict(zip(PARTS, num_classes))
        self._register_load_state_dict_pre_hook(accept_stock_head)

    def forward(self, x, **kwargs) -> Tensor:
        """Maps the stock head's input to logits, (B, V + N).

        Args:
            x: In the stock head's own form.
            kwargs (dict): Further arguments of the recognizer, such as
                ``num_segs``.
        """
        return self.head(x, **kwargs)

    def loss_by_feat(
        self, cls_scores: Tensor, data_samples: List[ActionDataSample]
    ) -> Dict[str, Tensor]:
        """Computes cross-entropy and accuracy of both parts.

        Args:
            cls_scores (Tensor): Logits, (B, V + N).
            data_samples (list): B samples; ``gt_label`` is [verb, noun].

        Returns:
            dict[str, Tensor]: ``loss_verb``, ``loss_noun``, ``top1_verb`` and
            ``top1_noun``.

        Raises:
            ValueError: If a label is not [verb, noun], e.g. mixed by Mixup.
        """
        labels = self._labels(data_samples).to(cls_scores.device)  # (B, 2)
        losses = {}
        for index, (part, logits) in enumerate(self._split(cls_scores)):
            target = labels[:, index]
            top1 = (logits.argmax(dim=1) == target).float().mean()
            losses[f'top1_{part}'] = top1
            if self.label_smooth_eps:
                smooth, count = self.label_smooth_eps, logits.shape[1]
                target = (1 - smooth) * F.one_hot(target, count)
                target = target + smooth / count  # (B, V) or (B, N)
            losses[f'loss_{part}'] = self.loss_cls(logits, target)
        return losses

    def predict_by_feat(
        self, cls_scores: Tensor, data_samples: List[ActionDataSample]
    ) -> List[ActionDataSample]:
        """Averages the probabilities of verbs and nouns over a sample's clips.

        ``average_clips`` is that of :class:`BaseHead`: 'prob' averages the
        clips' probabilities, 'score' their logits, None nothing.

        Args:
            cls_scores (Tensor): Logits, (B * clips, V + N).
            data_samples (list): B samples.

        Returns:
            list[ActionDataSample]: The samples. ``pred_score``, (V + N,), has
            the verbs' probabilities and then the nouns', each with sum one;
            ``pred_label``, (2,), the best of both. With
            ``average_clips=None`` (clips, V + N) and (clips, 2).
        """
        clips = len(cls_scores) // len(data_samples)
        scores = []
        for _, logits in self._split(cls_scores):
            averaged = self.average_clip(logits, num_segs=clips)
            if self.average_clips != 'prob':
                averaged = averaged.softmax(dim=-1)
            scores.append(averaged)
        labels = [part.argmax(dim=-1) for part in scores]
        for sample, score, label in zip(
            data_samples, torch.cat(scores, dim=-1), torch.stack(labels, -1)
        ):
            sample.set_pred_score(score)
            sample.set_pred_label(label)
        return data_samples

    def _split(self, scores: Tensor) -> Iterator[Tuple[str, Tensor]]:
        """Splits scores into both parts, in float32."""
        counts = list(self.class_counts.values())
        return zip(PARTS, scores.float().split(counts, dim=1))

    @staticmethod
    def _labels(data_samples: List[ActionDataSample]) -> Tensor:
        labels = torch.stack([sample.gt_label for sample in data_samples])
        if labels.is_floating_point():
            raise ValueError(
                'VerbNounHead got mixed labels: '
                'model.data_preprocessor.blending (Mixup, CutMix) mixes the '
                'labels of one question only. Leave it out.'
            )
        if labels.shape[1:] != (2,):
            raise ValueError(
                'VerbNounHead needs the gt_label [verb, noun] of every '
                f'sample, got {tuple(labels.shape[1:])} numbers. '
                "dataset.type='EpicKitchensDataset' gives it."
            )
        return labels


def accept_stock_head(state_dict: dict, prefix: str, *_) -> None:
    """Renames the weights of a stock head for this head.

    A ``load_state_dict`` pre-hook: X3D's hidden layer, for one, is trained on
    Kinetics as well. The last layer has other classes and is left alone, as
    in any fine-tuning.
    """
    for key in [key for key in state_dict if key.startswith(prefix)]:
        if not key.startswith(f'{prefix}head.'):
            name = key[len(prefix) :]
            state_dict[f'{prefix}head.{name}'] = state_dict.pop(key)
