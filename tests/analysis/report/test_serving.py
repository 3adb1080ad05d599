"""The served report is that of the records there are, on this machine alone."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from analysis.errors import NothingToShow
from analysis.report.serving import ReportServer, version_of
from tests.analysis.made_up_study import gap_study, record
from tests.analysis.report.conftest import wait


@contextmanager
def served(make, version):
    with ReportServer(make, version) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_a_page_is_made_once_a_version_and_not_while_it_is_fresh():
    versions, made = ["one"], []

    def make(version):
        made.append(version)
        return f"page of {version}"

    with served(make, lambda: versions[-1]) as server:
        assert [ask(server, "/")[1] for _ in range(3)] == ["page of one"] * 3
        versions.append("two")
        assert ask(server, "/version")[1] == "one"
        server._due = 0.0  # later
        assert ask(server, "/version")[1] == "two"
        assert ask(server, "/")[1] == "page of two"
    assert made == ["one", "two"]


def test_other_names_and_paths_are_refused():
    with served(lambda version: "page", lambda: "one") as server:
        assert server.server_address[0] == "127.0.0.1"
        assert ask(server, "/", host="evil.example")[0] == 403
        assert ask(server, "/", host=f"evil.example:{server.server_port}")[0] == 403
        assert ask(server, "/", host=f"localhost:{server.server_port}") == (200, "page")
        assert ask(server, "/../../etc/passwd")[0] == 404


def test_a_browser_that_is_gone_before_it_has_the_page_is_no_error(capfd):
    """The connection is reset in the midst of a page that is larger than what a system keeps for a reader."""
    asked = threading.Event()

    def make(version):
        asked.wait(30)
        return "page" * 10_000_000

    with served(make, lambda: "one") as server:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            wait(lambda: server._making.locked())
        asked.set()
        assert ask(server, "/version") == (200, "one")
        assert ask(server, "/")[0] == 200
    assert capfd.readouterr().err == ""


def test_before_the_first_record_it_says_so():
    def make(version):
        raise NothingToShow("the study <x> has no records yet")

    with served(make, lambda: "none") as server:
        status, page = ask(server, "/")
    assert status == 200
    assert "the study &lt;x&gt; has no records yet" in page
    assert 'http-equiv="refresh"' in page


def test_the_version_changes_with_the_records(write_study):
    folder = write_study([record(seed=0)], fragments=1)
    first = version_of(str(folder))
    assert version_of(str(folder)) == first
    write_study([record(seed=0), record(seed=1)], fragments=2)
    assert version_of(str(folder)) != first


@pytest.mark.xdist_group("analysis")
def test_an_open_page_follows_the_study(browser, write_study):
    """New records are shown within some seconds, with the axes and filters that were chosen."""
    from analysis.report.page import report_html

    rows = gap_study(capacities=(1, 10), levels=(0.0, 1.0), seeds=2)
    folder = write_study(rows, fragments=1)
    with served(lambda version: report_html(str(folder), version=version), lambda: version_of(str(folder))) as server:
        browser.get_log("browser")
        browser.get(server.address)
        count = "const box = document.getElementById('explorer-count'); return box === null ? '' : box.textContent"
        wait(lambda: browser.execute_script(count) == "8 points")
        browser.execute_script("explorer.change({y: 'train_error'}); explorer.filter('corruption.level', {codes: new Set([1])})")
        write_study([*rows, *gap_study(capacities=(100,), levels=(0.0, 1.0), seeds=2)], fragments=1)
        server._due = 0.0
        wait(lambda: browser.execute_script(count) == "6 of 12 points", 60)
        assert browser.find_element("id", "explorer-y").get_attribute("value") == "train_error"
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "favicon" not in entry["message"]] == []
