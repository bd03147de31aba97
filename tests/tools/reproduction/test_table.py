"""Means, deviations and differences."""

import json
import math

from reproduction import Table, json_table, markdown_table, text_table

TABLE = Table(
    *('t', 'Two', {'Verb': 'verb', 'Noun': 'noun'}, [], {}, 'alone'),
    monitors={'variance': 'residual_var'},
)

NONE = {}


def row(name, verbs, nouns, training=NONE, **paper):
    runs = [
        dict(metrics=dict(verb=verb, noun=noun), training=training)
        for verb, noun in zip(verbs, nouns)
    ]
    return dict(name=name, config='', paper=paper, runs=runs)


ROWS = [
    row('alone', (0.50, 0.54), (0.3, 0.3), Verb=51),
    row('taught', (0.60, 0.66), (0.4, 0.4), dict(residual_var=0.25)),
    row('once', (0.7,), (0.5,)),
    row('never', (), (), Noun=1),
]


def test_json_has_a_line_per_run():
    text = json_table('Two', ROWS)
    assert json.loads(text) == dict(title='Two', rows=ROWS)
    runs = [line for line in text.splitlines() if line.startswith('{"metrics')]
    assert len(runs) == 5
    assert json.loads(json_table('None', [])) == dict(title='None', rows=[])


def cells(line):
    return [cell.strip() for cell in line.strip('|\n').split('|')]


def test_every_cell():
    text = markdown_table(TABLE, ROWS).splitlines()
    assert text[0] == '## Two'
    assert cells(text[2]) == [
        *('row', 'runs'),
        *('Verb', 'paper', 'difference', 'vs. alone'),
        *('Noun', 'paper', 'difference', 'vs. alone'),
        'variance',
    ]
    error = math.sqrt((2 * 2**2 + 2 * 3**2) / 2)  # variances over n = 2
    assert cells(text[5])[2:6] == [
        *('63.00 ± 4.24', '-', '-', f'+11.00 ± {error:.2f}')
    ]
    assert cells(text[4])[2:6] == ['52.00 ± 2.83', '51.00', '+1.00', '-']
    assert cells(text[5])[6:10] == ['40.00 ± 0.00', '-', '-', '+10.00 ± 0.00']
    assert [cells(line)[10] for line in text[4:7]] == ['-', '0.250', '-']
    assert cells(text[6])[1:6] == ['1', '70.00', '-', '-', '-']
    assert cells(text[7])[6:10] == ['-', '1.00', '-', '-']


def test_a_metric_that_the_paper_lacks_stands_alone():
    table = TABLE._replace(metrics={'Verb': 'verb', 'Action': 'noun'})
    (head, *_) = markdown_table(table, ROWS).splitlines()[2:]
    assert cells(head)[2:8] == [
        *('Verb', 'paper', 'difference', 'vs. alone'),
        *('Action', 'vs. alone'),
    ]


def test_text_has_the_same_columns():
    drawn = text_table(TABLE, ROWS)
    assert len(drawn.columns) == 11 and drawn.row_count == 4
