"""The pytest plugin: hooks, options and reports over the fastkernels library."""

import pytest

# pytest marks the modules of an installed plugin by the distribution's file list, which an editable install lacks; an
# unmarked plugin draws a PytestAssertRewriteWarning when it is named again (-p) in the same process.
pytest.register_assert_rewrite("pytest_fastkernels.plugin")
