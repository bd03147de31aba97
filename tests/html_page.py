"""Reads a page: its tables, texts and pictures by section."""

from html.parser import HTMLParser

VOID = {'meta', 'img', 'br', 'source', 'link'}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        texts (dict[str, str]): Section -> all of its text.
        tables (dict[str, list]): Section -> rows of all its tables.
        attributes (list[tuple]): (tag, name, value) of the whole page.
        pictures (dict[str, list[str]]): Section -> ``src`` of its images.
    """

    def __init__(self, text):
        super().__init__()
        self.texts, self.tables, self.pictures = {}, {}, {}
        self.attributes = []
        self.section, self._open, self._cell = '', [], None
        self.feed(text)
        self.close()
        assert not self._open, f'not closed: {self._open}'

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == 'section':
            self.section = dict(attrs)['id']
        elif tag == 'tr':
            self.tables.setdefault(self.section, []).append([])
        elif tag in ('td', 'th'):
            self._cell = ''
        elif tag == 'img':
            src = dict(attrs)['src']
            self.pictures.setdefault(self.section, []).append(src)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ('td', 'th'):
            self.tables[self.section][-1].append(self._cell.strip())
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data
        self.texts[self.section] = self.texts.get(self.section, '') + data

    def row(self, section, first):
        """The row whose first cell begins so."""
        rows = [r for r in self.tables[section] if r[0].startswith(first)]
        assert len(rows) == 1, (first, rows)
        return rows[0]
