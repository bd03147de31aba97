import pytest
import report
from tiny_project import write_project


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A project with one seed of each student."""
    return write_project(tmp_path_factory.mktemp('project'))


@pytest.fixture(scope='module')
def page(project):
    """Its page, as text."""
    out = project / 'report.html'
    report.main([str(project), '--out', str(out), '--teacher-clips', '4'])
    return out.read_text(encoding='utf-8')
