"""What distillers with a loss over several teachers share."""

from typing import Dict, Optional, Sequence

from torch import Tensor

from ..recognizers.recording import OutputShapes, Recording
from .autocast import without_autocast
from .base import BaseDistiller
from .fusion_loss import FusionLoss
from .teacher_trust import TeacherTrust


class SeveralTeachersDistiller(BaseDistiller):
    """A distiller that fuses the logits of several teachers.

    The constructor of a subclass calls :meth:`_add_fusion`, adds what its
    own losses read, and then calls :meth:`_add_trust`.

    Attributes:
        fusion (FusionLoss): The loss over the teachers' logits.
        trust (TeacherTrust, optional): Accuracy of the teachers so far; None
            if it is switched off.
    """

    fusion: FusionLoss
    trust: Optional[TeacherTrust]

    def _add_fusion(
        self,
        config: Optional[dict],
        key: str,
        name: str,
        preset: Optional[str] = None,
    ) -> None:
        """Builds the loss over the logits of all teachers.

        Args:
            config (dict, optional): Its config; None switches it off.
            key (str): Its config key.
            name (str): Its name in the log.
            preset (str, optional): See :class:`FusionLoss`.

        Raises:
            ValueError: If it needs the teachers, but a cache stands in for
                them.
        """

        def tap_of(who: str) -> OutputShapes:
            if self._cache_folder is not None:
                raise ValueError(
                    f'{key}.feature_weight > 0 needs the classification '
                    'layers of the teachers, which model.teacher_cache='
                    f'{self._cache_folder!r} does not hold. Set '
                    f'{key}.feature_weight=0, or train without the cache.'
                )
            return self._tap(who)

        self.fusion = FusionLoss(
            config,
            key,
            name,
            list(self.teacher_specs),
            self.parts,
            self.multi_label,
            tap_of,
            preset,
        )
        for teacher in self.fusion.teachers:
            self.teacher_quantities[teacher].add('logits')
            self.student_quantities.add('logits')
        if not self.fusion.reads_features:
            return
        for teacher in self.fusion.teachers:
            self.teacher_quantities[teacher].add('embedding')
        self.student_quantities.add('embedding')

    def _add_trust(self, wanted: Optional[bool], default: bool) -> None:
        """Measures the accuracy of the teachers that the losses read.

        Args:
            wanted (bool, optional): The option ``teacher_trust``.
            default (bool): Its value where it is left out.

        Raises:
            ValueError: If the head is multi-label.
        """
        if self.multi_label and wanted:
            raise ValueError(
                'model.teacher_trust=True: the accuracy of a teacher is '
                'measured for one label per clip only, but the head of '
                'model.student is multi-label. Leave it out.'
            )
        if wanted is None:
            wanted = default and not self.multi_label
        read: Sequence[str] = [
            name for name, read in self.teacher_quantities.items() if read
        ]
        self.trust = None
        if wanted and read:
            self.trust = TeacherTrust(read, self.parts)
            for name in read:
                self.teacher_quantities[name].add('logits')

    @without_autocast
    def logits(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        labels: Tensor,
        trust: Optional[Dict[str, Tensor]],
    ) -> Dict[str, Tensor]:
        """The student's logits follow those of the teachers (Eq. 3 to 7).

        Returns:
            dict[str, Tensor]: The loss, one per part of the head, and the
                teachers' weights.
        """
        classifiers = None
        if self.fusion.reads_features:
            classifiers = {
                name: self.teachers[name].classify
                for name in self.fusion.teachers
            }
        return self.fusion(student, teachers, labels, trust, classifiers)
