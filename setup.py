"""Builds ``dtkd_mmaction`` with its configs and tools inside.

MIM and MMEngine look for a package's configs, tools and model index in
``<package>/.mim``. A wheel holds copies of them. An editable install has links
to the working copy there. MIM and MMEngine find the package where
``pkg_resources`` says, which does not know the editable installs of today
(PEP 660); then they read ``top_level.txt``, so that names the working copy.
"""

import os
import os.path as osp
import shutil
from glob import escape, glob

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = osp.dirname(osp.abspath(__file__))
PACKAGE = 'dtkd_mmaction'
MIM = ('configs', 'tools', 'model-index.yml')
NO_SOURCE = shutil.ignore_patterns('__pycache__', '*.pyc')


class BuildWithMim(build_py):
    """Builds the package, then fills its ``.mim`` folder."""

    def run(self):
        super().run()
        if self.editable_mode:
            fill_mim(osp.join(HERE, PACKAGE), link)
            self.tell_mim()
        else:
            fill_mim(osp.join(self.build_lib, PACKAGE), copy)

    def tell_mim(self):
        """Names the working copy in the metadata of an editable wheel."""
        wheel = self.distribution.get_command_obj('install').install_purelib
        (path,) = glob(osp.join(escape(wheel), '*.dist-info', 'top_level.txt'))
        with open(path, 'w', encoding='utf-8') as f:
            f.write(f'{osp.join(HERE, PACKAGE)}\n{PACKAGE}\n')

    def get_output_mapping(self):
        """Adds the files of ``.mim``: where they are built -> source."""
        return {**super().get_output_mapping(), **self.mim_files()}

    def get_outputs(self, include_bytecode=1):
        """Adds the files of ``.mim``."""
        return [*super().get_outputs(include_bytecode), *self.mim_files()]

    def mim_files(self):
        target = osp.join(self.build_lib, PACKAGE, '.mim')
        files = {}
        for name in MIM:
            walk = os.walk(name) if osp.isdir(name) else [('', [], [name])]
            for folder, _, names in walk:
                for path in (osp.join(folder, name) for name in names):
                    if '__pycache__' not in path:
                        files[osp.join(target, path)] = path
        return files


def fill_mim(package, place):
    """Fills the ``.mim`` folder of a package, in place of what is there."""
    folder = osp.join(package, '.mim')
    if osp.isdir(folder):
        shutil.rmtree(folder)
    os.makedirs(folder)
    for name in MIM:
        place(osp.join(HERE, name), osp.join(folder, name))


def copy(source, target):
    """Copies a file or a folder."""
    if osp.isdir(source):
        shutil.copytree(source, target, ignore=NO_SOURCE)
    else:
        shutil.copyfile(source, target)


def link(source, target):
    """Links to a file or a folder; copies where links are not allowed."""
    try:
        os.symlink(osp.relpath(source, osp.dirname(target)), target)
    except OSError:
        copy(source, target)


def read(name):
    """Returns the text of a file beside this one."""
    with open(osp.join(HERE, name), encoding='utf-8') as f:
        return f.read()


def version():
    """Returns the version without importing the package."""
    scope = {}
    exec(read(f'{PACKAGE}/version.py'), scope)
    return scope['__version__']


def requirements(name):
    """Returns the requirements of a file in ``requirements/``."""
    lines = (
        line.split('#')[0].strip()
        for line in read(f'requirements/{name}.txt').splitlines()
    )
    return [line for line in lines if line]


setup(
    name=PACKAGE,
    version=version(),
    description='Dual-teacher knowledge distillation of video models for '
    'MMAction2',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    author='The dtkd_mmaction authors',
    # The project has no public home yet; this is the paper that it follows.
    url='https://arxiv.org/abs/2511.09469',
    license='Apache-2.0',
    keywords='action recognition, knowledge distillation, video, MMAction2',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['py.typed']},
    include_package_data=False,  # .mim is filled at build time
    cmdclass=dict(build_py=BuildWithMim),
    python_requires='>=3.8',
    install_requires=requirements('runtime') + requirements('mminstall'),
    extras_require={
        'tests': requirements('tests'),
        'optional': requirements('optional'),
    },
    zip_safe=False,
)
