"""The page of a run that goes on: who gets it, and that the run is never harmed."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from avil_fast.config import TrainConfig
from avil_fast.errors import AvilError
from avil_fast.report import live as module
from avil_fast.report.live import Live
from avil_fast.report.summary import provisional_summary
from avil_fast.run import training
from tests.methods.models import linear
from tests.report.test_page import Reader, make

CONFIG = TrainConfig(target="a", rounds=3, output_dir=None)
SUMMARY, HISTORY = make(["a", "b"])
METRIC = SUMMARY["metric"]


@pytest.fixture
def live() -> Iterator[Live]:
    with Live(CONFIG, ["a", "b"], METRIC) as live:
        yield live
        live._end_seen.set()  # no page is open


def ask(
    address: str, more: str = "", method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    where = urlsplit(address + more)
    with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)) as connection:
        connection.request(method, where.path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def state(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(live.address, "state")[2])
    return found


def text(live: Live) -> str:
    return Reader(ask(live.address)[2].decode()).text


def test_the_page_follows_the_rounds(live: Live) -> None:
    assert "Waiting for round 1 of 3." in text(live)
    before = state(live)
    live.round(HISTORY[0])
    assert state(live)["version"] != before["version"]
    assert state(live)["said"] == "Round 1 of 3 is done."
    assert "1 of 3 rounds; the best so far is round 1." in text(live)
    live.round(HISTORY[1])
    assert "a, test accuracy so far 38.0 %" in text(live)


def test_the_baseline_that_trains_first_is_told(live: Live) -> None:
    before = state(live)["version"]
    baseline = live.of_baseline("single_all", 12)
    assert state(live)["said"] == "The baseline single_all trains first: round 1 of 12."
    assert state(live)["version"] != before
    baseline.round(HISTORY[2])
    assert "The baseline single_all trains first: round 4 of 12." in text(live)
    baseline.resumed(Path("checkpoint"), {}, HISTORY * 4)
    assert state(live)["said"] == "The baseline single_all trains first: its last round is done."
    live.planned(10, 0)
    assert state(live)["said"] == "Waiting for round 1 of 3."


def test_a_run_that_was_stopped_in_its_baseline_had_no_round() -> None:
    live = Live(CONFIG, ["a", "b"], METRIC)
    live.of_baseline("single", 3)
    with pytest.raises(KeyboardInterrupt), live:
        raise KeyboardInterrupt
    assert live._said == "The run was stopped before its first round."


@pytest.mark.parametrize(("keep", "held_out"), [("best", False), ("last", True)])
def test_where_the_last_round_is_kept_none_is_the_best(keep: str, held_out: bool) -> None:
    with Live(CONFIG.model_copy(update={"keep": keep}), ["a", "b"], METRIC) as live:
        live.round(HISTORY[0])
        live.round(HISTORY[1] | {"dev_held_out": held_out})
        page = text(live)
        live._end_seen.set()
    assert "2 of 3 rounds; the latest is round 2." in page
    assert "best so far" not in page


def test_a_finished_run_shows_what_it_came_to(live: Live) -> None:
    for row in HISTORY:
        live.round(row)
    assert state(live)["said"] == "All 3 rounds are done; the rest follows."
    live.ended(SUMMARY)
    assert state(live) | {"version": ""} == {"version": "", "said": "The run has ended.", "ended": True}
    assert "a, test accuracy 78.5 %" in text(live)


def test_who_does_not_know_the_token_learns_nothing(live: Live) -> None:
    start = live.address.removesuffix("/").rpartition("/")[0]
    wrong = "A" * len(urlsplit(live.address).path.strip("/"))
    for path in (
        "/",
        "/favicon.ico",
        f"/{wrong}/",
        f"/{wrong}/state",
        "//",
        "/%00/",
    ):
        status, headers, body = ask(start, path)
        assert (status, body) == (404, b""), path
        assert "server" not in headers
    assert ask(live.address, "other")[0] == 404
    assert ask(live.address.removesuffix("/"))[0] == 404


def test_a_name_that_was_pointed_here_is_refused(live: Live) -> None:
    port = urlsplit(live.address).port
    for host in (f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "evil.example", f"[::1]:{port}"):
        assert ask(live.address, host=host)[0] == 404, host
    assert ask(live.address, host=f"localhost:{port}")[0] == 200
    assert ask(live.address, host="localhost:9000")[0] == 200  # through a tunnel


def test_it_can_only_be_read(live: Live) -> None:
    status, headers, body = ask(live.address, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(live.address, method=method)[0] == 501


def test_it_is_bound_to_this_machine_and_kept_by_nobody(live: Live) -> None:
    assert live.address.startswith("http://127.0.0.1:")
    assert live._server.server_address[0] == "127.0.0.1"
    _, headers, body = ask(live.address)
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert f'<script nonce="{nonce}">' in body.decode()
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_addresses_are_not_to_be_guessed() -> None:
    with Live(CONFIG, ["a"], None) as one, Live(CONFIG, ["a"], None) as two:
        tokens = {urlsplit(live.address).path for live in (one, two)}
    assert len(tokens) == 2
    assert all(len(token) >= 32 for token in tokens)


def test_a_page_that_cannot_be_drawn_harms_nobody(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(module.page, "render", fail)
    live.round(HISTORY[0])
    assert "This page cannot be drawn (RuntimeError: no ink); the run is not harmed." in text(live)
    monkeypatch.undo()
    live.round(HISTORY[1])
    assert "2 of 3 rounds" in text(live)


def test_nothing_is_drawn_unless_somebody_looks_and_then_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def render(*_: Any) -> str:
        drawn.append(threading.current_thread().name)
        return "page"

    monkeypatch.setattr(module.page, "render", render)
    for row in HISTORY:
        live.round(row)
        state(live)
    assert drawn == []
    for _ in range(3):
        assert ask(live.address)[2] == b"page"
    assert len(drawn) == 1
    assert drawn != [threading.current_thread().name]


def test_a_run_that_fails_is_said_to_have_stopped() -> None:
    live = Live(CONFIG, ["a", "b"], METRIC)
    live.round(HISTORY[0])
    with pytest.raises(KeyboardInterrupt), live:
        raise KeyboardInterrupt
    assert live._said == "The run was stopped after round 1."


def test_the_end_waits_until_an_open_page_has_seen_it() -> None:
    live = Live(CONFIG, ["a", "b"], METRIC)
    live.resumed(Path("checkpoint"), {}, HISTORY)
    with live:
        state(live)
        live.ended(SUMMARY)
        later = threading.Timer(0.3, lambda: ask(live.address))
        later.start()
    later.join()
    assert live._end_seen.is_set()


def test_it_ends_at_once_beside_a_client_that_says_nothing() -> None:
    with Live(CONFIG, ["a", "b"], METRIC) as live:
        where = urlsplit(live.address)
        silent = socket.create_connection((where.hostname, where.port), timeout=20)
        silent.sendall(b"GET ")
        assert state(live)["ended"] is False  # the server has taken both
        live._end_seen.set()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    with silent:
        assert silent.recv(1) == b""
    assert not [thread for thread in threading.enumerate() if "process_request" in thread.name]


def test_a_port_that_is_taken_says_so() -> None:
    with Live(CONFIG, ["a"], None) as one:
        port = urlsplit(one.address).port or 0
        with pytest.raises(AvilError, match=f"port {port} of 127.0.0.1 cannot be served: .*; name another, or 0"):
            Live(CONFIG, ["a"], None, port=port).__enter__()
    with pytest.raises(AvilError, match="port 70000"):
        Live(CONFIG, ["a"], None, port=70000).__enter__()


def test_a_run_that_goes_on_shows_its_earlier_rounds(tmp_path: Path) -> None:
    with Live(CONFIG, ["a", "b"], METRIC) as live:
        live.resumed(tmp_path, {}, HISTORY[:2])
        assert "2 of 3 rounds" in text(live)
        live.round(HISTORY[2])
        assert "3 of 3 rounds; the best so far is round 3." in text(live)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_round_that_would_be_kept(keep: str) -> None:
    worse = HISTORY[1] | {"dev_metric": 0.1, "round": 4}
    config = CONFIG.model_copy(update={"keep": keep})
    found = provisional_summary(config, ["a", "b"], METRIC, [*HISTORY, worse])
    assert found["best_round"] == (3 if keep == "best" else 4)
    assert found["benefit"]["a"] == pytest.approx(0.9 if keep == "best" else 1.2)
    error = {"name": "mse", "higher_is_better": False, "percent": False}
    assert provisional_summary(CONFIG, ["a", "b"], error, [*HISTORY, worse])["best_round"] == 4


def test_a_summary_so_far_is_that_of_a_run_which_ends_there() -> None:
    case = linear()
    config = TrainConfig(target="t", rounds=2, output_dir=None, finetune={"epochs": 0}, batch_size=4)
    found = training.train(case.model, case.tasks(), config)
    ours = provisional_summary(config, found.tasks, found.summary["metric"], found.history)
    for key in ours.keys() - {"steps", "seconds", "versions", "baselines", "dev_loss", "dev_metric"}:
        assert ours[key] == pytest.approx(found.summary[key], rel=1e-6), key
