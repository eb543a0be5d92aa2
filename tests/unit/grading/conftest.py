"""What the tests of grading share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """Labelled pairs and benchmarks beside the repository; without them a test is skipped."""
    folder = repository.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder
