"""Sphinx configuration; ``bash tools/docs.sh`` builds the site."""

import warnings

import dtkd_mmaction  # first: it repairs the import of mmaction.models

warnings.simplefilter('ignore')

project = 'dtkd_mmaction'
author = 'The dtkd_mmaction developers'
copyright = 'The dtkd_mmaction developers'
release = dtkd_mmaction.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'sphinx-mathjax-offline',
]
exclude_patterns = ['_build', 'results']
source_suffix = {'.md': 'markdown'}

myst_enable_extensions = ['dollarmath', 'deflist']
myst_heading_anchors = 3
# Pages link to files of the repository, which the site does not contain.
suppress_warnings = ['myst.xref_missing']

autodoc_default_options = {
    'members': True,
    'show-inheritance': True,
    'exclude-members': 'forward',
}
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = 'sphinx_book_theme'
html_title = 'dtkd_mmaction'
html_static_path = ['_static']
html_css_files = ['site.css']
html_theme_options = {
    'show_toc_level': 2,
    'use_download_button': False,
    'use_fullscreen_button': False,
}
copybutton_exclude = '.linenos, .gp'
