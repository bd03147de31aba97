"""Puts the sections into one HTML file that needs nothing else."""

import re
from datetime import datetime
from html import escape
from pathlib import Path

from .findings import Findings
from .sections import SECTIONS

STYLE = Path(__file__).with_name('style.css')
# Nothing may be loaded from anywhere, whatever a class name contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def anchor(title: str) -> str:
    """Returns the name of a section in links."""
    return re.sub(r'\W+', '-', title.lower())


def render(found: Findings) -> str:
    """Returns the whole page.

    Args:
        found (Findings): What it shows.
    """
    links = ''.join(
        f'<a href="#{anchor(title)}">{title}</a>' for title in SECTIONS
    )
    sections = '\n'.join(
        f'<section id="{anchor(title)}"><h2>{title}</h2>{write(found)}'
        '</section>'
        for title, write in SECTIONS.items()
    )
    made = datetime.now().strftime('%Y-%m-%d %H:%M')
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(found.title)}</title>
<style>{STYLE.read_text()}</style>
</head>
<body>
<header><h1>{escape(found.title)}</h1>
<p>Distillation report, {made}</p>
<nav>{links}</nav></header>
<main>
{sections}
</main>
</body>
</html>
"""
