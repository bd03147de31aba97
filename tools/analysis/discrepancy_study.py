"""Compares the formulas of DATW's discrepancy (Eq. 5) on random logits.

    python tools/analysis/discrepancy_study.py

Prints, per number of classes and formula, how many different values 2,000
random pairs of student and teacher logits have (rounded to four digits), and
Spearman's rank correlation with the divergence that the loss would minimise,
KL(teacher || student) at the same temperature. A formula that distinguishes
samples well has many values and a high correlation.
"""

import argparse

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from dtkd_mmaction.losses.datw import (
    DISCREPANCIES,
    student_teacher_discrepancy,
)

PAIRS = 2000


def measure(num_classes: int, kind: str, tau: float) -> tuple:
    """Returns the number of different values and the rank correlation."""
    generator = torch.Generator().manual_seed(0)
    # A trained teacher's logits spread more than those of a new student.
    student = torch.randn(PAIRS, num_classes, generator=generator)
    teacher = 3 * torch.randn(PAIRS, num_classes, generator=generator)
    values = student_teacher_discrepancy(student, teacher, kind, tau)
    divergence = F.kl_div(
        F.log_softmax(student / tau, dim=1),
        F.log_softmax(teacher / tau, dim=1),
        log_target=True,
        reduction='none',
    ).sum(dim=1)
    rounded = (values * 1e4).round().unique()
    return len(rounded), float(spearmanr(values, divergence).statistic)


def main() -> None:
    """Measures every formula and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--classes', type=int, nargs='+', default=[2, 3, 6, 51, 400]
    )
    parser.add_argument('--tau', type=float, default=4.0)
    args = parser.parse_args()
    table = Table('classes', 'discrepancy', 'values', 'rank correlation')
    for num_classes in args.classes:
        for kind in DISCREPANCIES:
            values, correlation = measure(num_classes, kind, args.tau)
            table.add_row(
                str(num_classes), kind, str(values), f'{correlation:.2f}'
            )
    Console().print(table)


if __name__ == '__main__':
    main()
