import os.path as osp

from setuptools import find_packages, setup

HERE = osp.dirname(osp.abspath(__file__))


def read(name):
    with open(osp.join(HERE, name), encoding='utf-8') as f:
        return f.read()


def version():
    scope = {}
    exec(read('dtkd_mmaction/version.py'), scope)
    return scope['__version__']


def requirements(name):
    lines = (
        line.split('#')[0].strip()
        for line in read(f'requirements/{name}.txt').splitlines()
    )
    return [line for line in lines if line]


setup(
    name='dtkd_mmaction',
    version=version(),
    description='Dual-teacher knowledge distillation of video models for '
    'MMAction2',
    long_description=read('README.md')
    if osp.exists(osp.join(HERE, 'README.md'))
    else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='action recognition, knowledge distillation, video',
    classifiers=[
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['dtkd_mmaction', 'dtkd_mmaction.*']),
    python_requires='>=3.8',
    install_requires=requirements('runtime') + requirements('mminstall'),
    extras_require={
        'tests': requirements('tests'),
        'optional': requirements('optional'),
    },
    zip_safe=False,
)
