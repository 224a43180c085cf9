"""A JSON-lines file that plots, and what a person sees of it."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

from encoders.training.log import Log, epochs, read_log


@dataclass(frozen=True)
class Config:
    width: int = 3


TERMS = {"loss": 1.2345678, "sim": 0.5}


def test_the_file_has_the_configuration_steps_and_epochs(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    log = Log(path, Config())
    log.step(0, 2, 19, 40, 1e-3, TERMS)
    log.epoch(0, loss=1.2345678, map=0.5)
    Log(path, Config()).epoch(1, loss=1.0)  # a run that goes on
    step = {"epoch": 1, "step": 20, "rate": 1e-3, "loss": 1.23457, "sim": 0.5}
    config, ends = {"config": {"width": 3}}, [{"epoch": 1, "loss": 1.23457, "map": 0.5}, {"epoch": 2, "loss": 1.0}]
    assert read_log(path) == [config, step, ends[0], config, ends[1]]
    assert epochs(read_log(path)) == [config, ends[0], config, ends[1]]
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 1/2 step 20/40  loss 1.235 sim 0.500" in err
    assert [json.loads(line) for line in err.splitlines() if line.startswith("{")] == [config, ends[0], config, ends[1]]


def test_a_terminal_has_one_line_of_progress(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    log = Log(tmp_path / "log.jsonl", Config())
    before = terminal.getvalue().count("\n")
    for step in range(3):
        log.step(0, 2, step, 40, 1e-3, TERMS)
    assert terminal.getvalue().count("\n") == before
    assert terminal.getvalue().count("\r") >= 3


def test_all_but_the_first_process_are_silent(tmp_path: Path, capsys):
    log = Log(tmp_path / "log.jsonl", Config(), silent=True)
    log.step(0, 2, 0, 40, 1e-3, TERMS)
    log.epoch(0, loss=1.0)
    assert not (tmp_path / "log.jsonl").exists()
    assert capsys.readouterr() == ("", "")
