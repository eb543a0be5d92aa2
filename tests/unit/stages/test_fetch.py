"""Stage fetch: a model is downloaded if it fits on the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gapgrid.core import manifest
from gapgrid.engines import hub
from gapgrid.stages import fetch

SPEC = {"stage": "fetch", "version": 1, "hub": "owner/name"}


@pytest.mark.parametrize("n_bytes", [7, 10**18])
def test_a_model_is_fetched_if_it_fits(
    run: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    n_bytes: int,
) -> None:
    snapshot = tmp_path / "commit"
    snapshot.mkdir()
    (snapshot / "config.json").write_bytes(b"1234567")
    monkeypatch.setattr(hub, "cache", lambda: tmp_path)
    monkeypatch.setattr(hub, "missing_bytes", lambda repository, revision: n_bytes)
    monkeypatch.setattr(hub, "snapshot", lambda repository, revision: snapshot)
    path = tmp_path / "manifest.json"
    if n_bytes == 7:
        assert run(fetch, SPEC, path) == 0
        facts = {"commit": "commit", "n_files": 1, "n_bytes": 7}
        assert manifest.read(path)["facts"] == facts
    else:
        assert run(fetch, SPEC, path) == 1
        error = "error: owner/name@main: 1000000000.00 GB to fetch, but "
        assert capsys.readouterr().err.startswith(error)
        assert not path.exists()
