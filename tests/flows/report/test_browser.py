"""The report in a real browser: it draws everything with the network switched off, and complains about nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.report.report import write_report
from flows.run.record import RunRecord
from tests.flows.example import example_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.drill
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_report_in_a_browser(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    page = write_report(RunRecord.model_validate(record), store, tmp_path / "report.html")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options = [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=4000",
    ]
    done = subprocess.run(
        [*command, *options, "--window-size=1200,4000", f"--screenshot={tmp_path / 'page.png'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.png").stat().st_size > 50_000  # a blank page is a tenth of that
    assert "CONSOLE" not in done.stderr, done.stderr
