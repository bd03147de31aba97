"""Settings of a project: clips, batch, epochs and views that fit the data."""

from typing import List, NamedTuple, Optional

import torch

from .zoo import Model

# Steps of a student's training, as far as the epochs allow.
STEPS = 1000
FEWEST_EPOCHS, MOST_EPOCHS = 20, 200
BATCH = 16
# Views of each training clip: enough for an augmentation, few enough for a
# cache of the teachers' outputs.
VIEWS = 10
# Of every fourth frame at most.
LONGEST_INTERVAL = 4
# Size of a student's clip on a CPU.
CPU_SIZE = 112
# A mirror flip turns one into the other.
SIDES = ('left', 'right', 'links', 'rechts', 'gauche', 'droite')


class Plan(NamedTuple):
    """All that the files of a project say.

    Attributes:
        title (str): Name of the project.
        root (str): Folder of the clips.
        delimiter (str): Between path and label in the lists.
        classes (list[str]): Names of the classes.
        counts (dict[str, int]): Clips by split.
        student (Model): The student.
        vit_teacher (Model): The ViT teacher.
        cnn_teacher (Model): The CNN teacher.
        clip_frames (int): Frames of the clip that all models share.
        interval (int): Interval of these frames.
        batch (int): Clips of a step.
        epochs (int): Epochs of the student.
        views (int): Views of each training clip.
        flip (bool): Whether clips are mirrored at random.
        exact (bool): Whether stock decoding is right for all clips.
        workers (int): Processes that decode.
        group_by (str, optional): Pattern of the source, for the probes.
        kept (bool): Whether decoded views are kept on the disk.
        cached (bool): Whether the teachers' outputs are cached.
    """

    title: str
    root: str
    delimiter: str
    classes: List[str]
    counts: dict
    student: Model
    vit_teacher: Model
    cnn_teacher: Model
    clip_frames: int
    interval: int
    batch: int
    epochs: int
    views: int
    flip: bool
    exact: bool
    workers: int
    group_by: Optional[str]
    kept: bool
    cached: bool

    @property
    def size(self) -> int:
        """Height and width of the clip that all models share."""
        models = (self.student, self.vit_teacher, self.cnn_teacher)
        return max(model.size for model in models)

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last, smaller batch is dropped."""
        return self.counts['train'] // self.batch

    def interval_of(self, frames: int) -> int:
        """Interval at which fewer frames show the same time."""
        return max(1, round(self.interval * self.clip_frames / frames))


def batch_size(clips: int, wanted: Optional[int] = None) -> int:
    """Returns the clips of a step: at least two steps an epoch."""
    return wanted or max(2, min(BATCH, clips // 2))


def epochs_for(clips: int, batch: int, wanted: Optional[int] = None) -> int:
    """Returns the epochs that make about ``STEPS`` steps."""
    epochs = round(STEPS / max(clips // batch, 1))
    return wanted or min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)


def frame_interval(median_frames: int, clip_frames: int) -> int:
    """Returns the interval at which a clip fits into the median video."""
    return min(max(median_frames // clip_frames, 1), LONGEST_INTERVAL)


def may_flip(classes: List[str]) -> bool:
    """Returns whether no class is named by a side."""
    words = {word for name in classes for word in split_words(name)}
    return not words.intersection(SIDES)


def split_words(name: str) -> List[str]:
    """Splits ``turn_Left`` into lower-case words."""
    spaced = ''.join(
        f' {c}' if c.isupper() else c if c.isalnum() else ' ' for c in name
    )
    return spaced.lower().split() + name.lower().replace('_', ' ').split()


def default_size(given: Optional[int]) -> Optional[int]:
    """Returns the size of the student's clip; None is the model's own."""
    return given or (None if torch.cuda.is_available() else CPU_SIZE)


def default_student() -> str:
    """Returns the student that this machine trains in reasonable time."""
    return 'x3d-s' if torch.cuda.is_available() else 'movinet-a0'
