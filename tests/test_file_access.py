"""Files are written by dtkd_mmaction/files, and nothing executes a file.

The tests read the source of the package and of the tools. Exceptions are
listed with their reasons; one that is no longer needed fails.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ('dtkd_mmaction', 'tools')
    for path in (ROOT / folder).rglob('*.py')
)

# Methods and functions that write a file whose path they are given.
WRITERS = {
    'write_text',
    'write_bytes',
    'savefig',
    'to_csv',
    'tofile',
    'imwrite',
    'VideoWriter',
    'copyfile',
    'copy',
    'copy2',
    'copytree',
    'move',
    'rename',
    'save',
    'savez',
    'savez_compressed',
    'savetxt',
    'dump',
}
# `dict.copy()`, `str.replace(a, b)` and the like have no path.
MODULES_OF = {
    'copy': {'shutil'},
    'copy2': {'shutil'},
    'move': {'shutil'},
    'dump': {'json', 'pickle', 'yaml', 'mmengine', 'config', 'marshal'},
    'save': {'torch', 'np', 'numpy', 'onnx', 'image', 'picture'},
}
OWN_WRITERS = {'files', 'dtkd_mmaction.files'}

# (file, call) -> why it does not go through dtkd_mmaction/files.
WRITES = {
    ('dtkd_mmaction/files/writing.py', 'open'): 'this is the one way',
    ('dtkd_mmaction/files/writing.py', 'os.replace'): 'this is the one way',
    ('dtkd_mmaction/file_lock.py', 'os.open'): 'a lock is no content',
    ('tools/analysis/campaign/bad_inputs.py', 'open'): 'breaks files',
    ('tools/analysis/campaign/bad_inputs.py', 'pickle.dump'): 'breaks files',
    ('tools/analysis/campaign/bad_inputs.py', 'torch.save'): 'breaks files',
    ('tools/analysis/campaign/bad_inputs.py', 'shutil.copy'): 'breaks files',
    (
        'tools/analysis/campaign/bad_inputs.py',
        'shutil.copytree',
    ): 'breaks files',
    ('tools/analysis/campaign/strikes.py', 'open'): 'log of a killed process',
    ('tools/analysis/campaign/subjects.py', 'shutil.copy'): 'its own folder',
    ('tools/analysis/campaign/workplace.py', 'open'): 'its own folder',
    ('tools/analysis/campaign/workplace.py', 'torch.save'): 'its own folder',
    (
        'tools/analysis/campaign/workplace.py',
        'cv2.VideoWriter',
    ): 'its own folder',
    (
        'tools/analysis/benchmarking/workbench.py',
        'cv2.VideoWriter',
    ): 'a temporary folder',
    ('tools/data/check_clips.py', 'open'): 'a report that grows by rows',
    ('tools/data/check_clips.py', 'os.replace'): 'a report that grows by rows',
    ('tools/data/clip_workers.py', 'os.open'): '/dev/null',
    ('tools/data/make_demo_clips.py', 'cv2.VideoWriter'): 'temporary folder',
    ('tools/data/preparation/archives.py', 'open'): 'journal, appended to',
    ('tools/data/reencode_clips.py', 'av.open'): 'checked, then put in place',
    ('tools/reproduction/launching.py', 'open'): 'log, appended to',
    ('tools/reproduction/launching.py', 'os.rename'): 'moves a folder aside',
}

# (file, call) -> why it may execute or unpickle.
EXECUTES = {
    ('dtkd_mmaction/compat/checkpoints.py', 'torch.load'): 'own unpickler',
    ('tools/train.py', 'runpy.run_path'): "runs MMAction2's tool",
    ('tools/test.py', 'runpy.run_path'): "runs MMAction2's tool",
    (
        'tools/reproduction/plan.py',
        'Config.fromstring',
    ): 'text that compose_config.py has made',
    (
        'tools/analysis/campaign/subjects.py',
        'torch.load',
    ): 'checkpoints of its own trainings',
    (
        'tools/analysis/campaign/bad_inputs.py',
        'pickle.dump',
    ): 'writes what must be refused',
}


def name_of(node):
    """Returns `a.b` of a called function, and `().b` of `f().b`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f'{name_of(node.value)}.{node.attr}'
    return '()'


def safe_targets(tree):
    """Names of `with atomic_file(...) as NAME` and `NAME = io.BytesIO()`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and node.optional_vars is not None:
            if getattr(node.context_expr, 'func', None) is not None:
                if name_of(node.context_expr.func) == 'atomic_file':
                    names.add(name_of(node.optional_vars))
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            several = isinstance(target, ast.Tuple)
            values = getattr(node.value, 'elts', [node.value])
            for value, name in zip(
                values, target.elts if several else [target]
            ):
                made = name_of(getattr(value, 'func', None))
                if made in ('io.BytesIO', 'io.StringIO'):
                    names.add(name_of(name))
    return names


def constant(call, position, keyword):
    for part in call.keywords:
        if part.arg == keyword:
            return getattr(part.value, 'value', '?')
    if len(call.args) > position:
        return getattr(call.args[position], 'value', '?')
    return None


def opens_to_write(call, name):
    if name == 'os.open':
        return 'O_RDONLY' not in ast.dump(call)
    if name in ('zipfile.ZipFile', 'tarfile.open', 'av.open', 'gzip.open'):
        mode = constant(call, 1, 'mode')
    elif name in ('open', 'io.open', 'os.fdopen'):
        mode = constant(call, 1, 'mode')
    elif name.endswith('.open'):
        mode = constant(call, 0, 'mode')
        mode = mode if isinstance(mode, str) and len(mode) < 4 else None
    else:
        return False
    return isinstance(mode, str) and bool(set(mode) & set('wax+'))


def written_files(tree):
    """Yields the calls that write a file in their own way."""
    safe = safe_targets(tree)
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        name = name_of(call.func)
        owner, _, method = name.rpartition('.')
        if any(isinstance(a, ast.Name) and a.id in safe for a in call.args):
            continue  # into an atomic file, or into memory
        if opens_to_write(call, name):
            yield name
        elif name in ('os.replace', 'os.rename', 'sqlite3.connect'):
            yield name
        elif method == 'replace' and len(call.args) == 1:
            yield name  # Path.replace
        elif method in WRITERS and (owner or method == 'VideoWriter'):
            last = owner.rpartition('.')[2]
            if owner in OWN_WRITERS or last not in MODULES_OF.get(
                method, {last}
            ):
                continue
            yield name


def executed_files(tree):
    """Yields the calls that run, or may run, what a file holds."""
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        name = name_of(call.func)
        options = {
            k.arg: getattr(k.value, 'value', None) for k in call.keywords
        }
        owner, _, method = name.rpartition('.')
        if name in ('eval', 'exec', 'yaml.load', 'torch.hub.load'):
            yield name
        elif name == 'torch.load' and options.get('weights_only') is not True:
            yield name
        elif name in ('np.load', 'numpy.load') and (
            options.get('allow_pickle') is not False
        ):
            yield name
        elif owner in ('pickle', 'marshal', 'shelve', 'dill', 'joblib'):
            if method.lower() in ('load', 'loads', 'open', 'dump', 'dumps'):
                yield name
        elif owner == 'runpy' or method in ('extractall', 'fromstring'):
            yield name
        elif owner in ('mmengine', 'fileio') and method == 'load':
            yield name  # picks pickle by the name of the file
        elif options.get('shell') is True:
            yield name


def found_in_sources(finder):
    return {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for name in finder(ast.parse(path.read_text('utf-8')))
    }


@pytest.mark.parametrize(
    'finder, known', [(written_files, WRITES), (executed_files, EXECUTES)]
)
def test_all_files_are_read_and_written_in_one_way(finder, known):
    found = found_in_sources(finder)
    assert not found - set(known), 'use dtkd_mmaction/files'
    assert not set(known) - found, 'these exceptions are not needed'


@pytest.mark.parametrize(
    'finder, lines',
    [
        (
            written_files,
            """open(p, 'w')
open(p, mode='ab')
path.open('w')
Path(p).write_text('x')
(a / b).write_bytes(b'x')
json.dump(x, f)
torch.save(x, path)
np.save(path, x)
figure.savefig(path)
draw(x).savefig(path)
config.dump(path)
run.config.dump(path)
shutil.copy(a, b)
os.replace(a, b)
path.replace(other)
os.open(p, os.O_RDWR)
cv2.imwrite(p, x)""",
        ),
        (
            executed_files,
            """torch.load(p)
torch.load(p, weights_only=False)
np.load(p)
np.load(p, allow_pickle=True)
pickle.load(f)
pickle.loads(b)
yaml.load(f)
eval(x)
Config.fromstring(x, '.py')
tar.extractall(p)
subprocess.run(x, shell=True)""",
        ),
    ],
)
def test_the_check_sees_each_of_these(finder, lines):
    for line in lines.splitlines():
        assert list(finder(ast.parse(line))), line


def test_the_check_leaves_these_alone():
    text = """open(p)
open(p, 'rb')
text.replace('a', 'b')
options.copy()
write_text(path, x)
files.write_text(path, x)
with atomic_file(path) as file:
    torch.save(x, file)
    file.write(x)
os.open(p, os.O_RDONLY)"""
    assert not list(written_files(ast.parse(text)))
    text = """torch.load(p, weights_only=True)
np.load(p, allow_pickle=False)
yaml.safe_load(f)
json.loads(text)
model.eval()"""
    assert not list(executed_files(ast.parse(text)))
