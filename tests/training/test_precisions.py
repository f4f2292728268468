"""Every precision that is offered trains, or is refused by name."""

import json
from pathlib import Path

import pytest

from ldm import precision
from ldm.files import newest_checkpoint, read_checkpoint
from ldm.program.main import main

TINY = [
    "model.params.autoencoder.params.width=32",
    "data.params.batch_size=4",
    "trainer.params.log_every=1",
    "trainer.params.validate_every=0",
    "trainer.params.images_every=0",
    "trainer.params.accelerator=cpu",
    "model.params.scheduler=null",
]
FIRST = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "-n", "first", *TINY]


def test_what_auto_decided_is_saved_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Begun where bf16 is multiplied in hardware, then resumed there, and then where it is not."""
    caplog.set_level("INFO")
    for steps, native, kept in ((1, True, "bf16-mixed"), (2, True, "bf16-mixed"), (3, False, "32-true"), (4, True, "32-true")):
        monkeypatch.setattr(precision, "multiplies_bf16", lambda device, native=native: native)
        caplog.clear()
        words = [*FIRST, "-l", str(tmp_path)] if steps == 1 else ["--resume", str(next(tmp_path.iterdir()))]
        assert main([*words, f"trainer.params.steps={steps}"]) == 0
        (run,) = tmp_path.iterdir()
        assert read_checkpoint(newest_checkpoint(run))["auto_precision"] == kept
        assert f"{kept} on cpu" in caplog.text
        assert ("does not multiply in hardware" in caplog.text) == (steps == 3)
    notes = [json.loads(line)["what"] for line in (run / "incidents.jsonl").read_text().splitlines()]
    assert [("goes on in 32-true" in note) for note in notes] == [False, True, False]
