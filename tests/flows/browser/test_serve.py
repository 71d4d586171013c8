"""The server of an exported folder answers its own pages, and nobody who comes by another name or from another page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from flows.browser.serve import folder_server
from infra.http_guard import HEADERS


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    place = tmp_path_factory.mktemp("place")
    (place / "outside.txt").write_text("outside")
    folder = place / "folder"
    (folder / "engine").mkdir(parents=True)
    (folder / "engine" / "inside.txt").write_text("inside")
    with folder_server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def asked(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8000", "localhost.rebound.example:8000"])
def test_a_name_that_is_rebound_to_this_machine(port: int, host: str, method: str) -> None:
    assert asked(port, "/engine/inside.txt", method, Host=host)[0] == 403


def test_its_own_names(port: int) -> None:
    for host in ("localhost", "127.0.0.1", f"localhost:{port}", f"[::1]:{port}"):
        status, headers, text = asked(port, "/engine/inside.txt", Host=host)
        assert (status, text) == (200, "inside")
        assert {name: headers[name] for name in HEADERS} == HEADERS


def test_a_page_of_another_origin(port: int) -> None:
    at = {"Host": f"localhost:{port}"}
    assert asked(port, "/engine/inside.txt", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", **at)[0] == 403
    assert asked(port, "/engine/inside.txt", Origin="http://localhost:1", **at)[0] == 403
    assert asked(port, "/engine/inside.txt", Origin=f"http://localhost:{port}", **at)[0] == 200
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert asked(port, "/engine/inside.txt", **link, **at)[0] == 200  # a link that a person followed


def test_what_is_not_of_the_folder(port: int) -> None:
    for path in (
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/engine/..%2f..%2foutside.txt",
        "//outside.txt",
        "/engine/",
    ):
        assert asked(port, path)[0] == 404
    assert asked(port, "/engine/inside.txt", "POST")[0] == 501
