"""g20 samples: adding, listing, removing and exporting, as a person does it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from app.cli import output as consoles
from app.cli import samples as sample_commands
from engine.errors import HydraError, StoreError
from training.samples.store import SampleStore

from .labelled import at, record

Run = Callable[..., Result]


@pytest.fixture
def run(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`g20 samples ...` on the stand-ins' front end and a training_data of its own; what Hydra refuses is raised."""
    monkeypatch.setattr(consoles.data_console, "width", 150)
    app = typer.Typer()
    app.callback()(lambda: None)
    sample_commands.register(app)

    def run(command: str, *words: object) -> Result:
        models = ["--models", tiny_models] if command == "add" else []
        done = CliRunner().invoke(app, ["samples", command, *map(str, [*words, *models, "--data", tmp_path / "data"])])
        if isinstance(done.exception, HydraError):
            raise done.exception
        return done

    return run


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "data")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return record(tmp_path / "street", at(0.01, 0.02), at(0.06, 0.07), at(0.01, 0.02, "WiFi", 2e5, 3e5), seconds=0.15)


def test_annotated_recordings_become_samples(run: Run, store: SampleStore, recording: Path) -> None:
    done = run("add", "alpha", recording, "--negatives", 1)
    boxes = "2 of the signal, 1 of other labelled signals in these windows"
    assert done.output == f"street.sigmf-meta: 3 windows of 50 ms, boxes: {boxes}\n"
    assert len(store.list("alpha")) == 3


def test_options_reach_the_samples(run: Run, store: SampleStore, recording: Path) -> None:
    run("add", "gamma", recording, "--label", "WiFi", "--side", "validation", "--limit", 1,
        "--box", "0.03,0.04,999.6e6,999.7e6", "--box", "0.03,0.04,1000.3e6,1000.4e6,some, other")  # fmt: skip
    (sample,) = store.list("gamma")
    assert sample.side == "validation"
    assert sorted(box.label for box in sample.boxes) == ["alpha", "gamma", "gamma", "some, other"]


def test_rate_and_centre_may_be_given(run: Run, store: SampleStore, recording: Path, tmp_path: Path) -> None:
    raw = recording.with_suffix(".sigmf-data").rename(tmp_path / "raw.cs8")
    run("add", "alpha", raw, "--rate", 1e6, "--center", 5e9, "--box", "0.01,0.02,5e9,5.0001e9")
    assert [sample.center_freq_hz for sample in store.list("alpha")] == [5e9]


@pytest.mark.parametrize(
    "words",
    [(), ("r.iq", "--coco", "c.json"), ("r.iq", "--box", "1,2,3"), ("r.iq", "--box", "1,2,3,x"), ("r.iq", "--limit", 0),
     ("--coco", "c.json", "--box", "1,2,3,4"), ("--coco", "c.json", "--image-only"), ("r.iq", "--side", "test")],
)  # fmt: skip
def test_wrong_use_is_told_and_nothing_is_written(run: Run, store: SampleStore, words: tuple[object, ...]) -> None:
    assert run("add", "alpha", *words).exit_code == 2
    assert not store.path.exists()


def test_a_recording_without_the_signal_is_refused(run: Run, recording: Path) -> None:
    done = run("add", "beta", recording)
    assert done.exit_code == 1
    assert "no window shows 'beta'" in done.output


def test_a_bad_file_does_not_keep_the_others_from_being_added(
    run: Run, store: SampleStore, recording: Path, tmp_path: Path
) -> None:
    other = record(tmp_path / "other", at(0.01, 0.02), seconds=0.03)
    bad = tmp_path / "bad.sigmf-meta"
    bad.write_text("{")
    done = run("add", "alpha", recording, bad, tmp_path / "none.cs8", other)
    assert done.exit_code == 1
    assert "street.sigmf-meta: 2 windows" in done.output and "other.sigmf-meta: 1 windows" in done.output
    assert f"added: 2 of 4 recordings; not added: {bad}, {tmp_path / 'none.cs8'}" in done.output
    assert len(store.list("alpha")) == 3


def test_a_bad_signal_name_is_refused_once_and_not_for_each_file(run: Run, recording: Path) -> None:
    with pytest.raises(StoreError, match="use 1 to 64 of a-z, 0-9 and _"):
        run("add", "Alpha", recording, recording)


def test_listing_a_signal_without_samples_is_an_error_that_names_the_known_ones(run: Run, recording: Path) -> None:
    with pytest.raises(StoreError, match="no samples of 'nosuch'; there are none of any signal"):
        run("list", "nosuch")
    run("add", "alpha", recording)
    with pytest.raises(StoreError, match="no samples of 'nosuch'; there are samples of alpha: add some with"):
        run("list", "nosuch", "--json")


def test_the_list_counts_signals_and_shows_samples(run: Run, store: SampleStore, recording: Path) -> None:
    run("add", "alpha", recording, "--side", "train")
    (row,) = [line for line in run("list").output.splitlines() if "alpha" in line]
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["alpha", "2", "2", "0", "-"]
    shown = run("list", "alpha").output
    assert all(sample.sample_id in shown and sample.source_capture in shown for sample in store.list("alpha"))
    assert "(train)" in shown


def test_the_list_as_json_is_one_object_a_line(run: Run, store: SampleStore, recording: Path) -> None:
    run("add", "alpha", recording)
    lines = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert [line["sample_id"] for line in lines] == [sample.sample_id for sample in store.list("alpha")]
    assert [line["split"] for line in lines] == [None, None]


def test_the_list_says_which_samples_have_no_second_look(run: Run, store: SampleStore, recording: Path) -> None:
    run("add", "alpha", recording, "--image-only", "--limit", 1)
    assert [sample.iq_file for sample in store.list("alpha")] == [None]
    run("add", "alpha", recording, "--negatives", 1, "--image-only")
    assert "3 of 3 samples keep no IQ: no second look; add their recordings again" in run("list", "alpha").output
    run("add", "alpha", recording)
    assert "1 of 3 samples keep no IQ" in run("list", "alpha").output
    (row,) = [line for line in run("list").output.splitlines() if "alpha" in line]
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["alpha", "3", "2", "1", "-"]
    lines = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert sorted(line["second_look"] for line in lines) == [False, True, True]


def test_what_is_removed_is_gone(run: Run, store: SampleStore, recording: Path) -> None:
    run("add", "alpha", recording)
    first, second = store.list("alpha")
    assert run("remove", "alpha", first.sample_id).output == "alpha: 1 removed, 1 left\n"
    assert store.list("alpha") == [second]
    with pytest.raises(StoreError, match=f"no sample {first.sample_id}"):
        run("remove", "alpha", first.sample_id)


def test_labels_go_out_as_coco_and_come_back_corrected(
    run: Run, store: SampleStore, recording: Path, tmp_path: Path
) -> None:
    run("add", "alpha", recording)
    path = Path(run("export", "alpha", tmp_path / "out").output.strip())
    tables = json.loads(path.read_text())
    (known,) = (category["id"] for category in tables["categories"] if category["name"] == "alpha")
    tables["annotations"] = [row for row in tables["annotations"] if row["category_id"] == known]
    path.write_text(json.dumps(tables))
    done = run("add", "alpha", "--coco", path)
    boxes = "2 of the signal, 0 of other labelled signals in these windows"
    assert f"annotations.json: 2 windows of 50 ms, boxes: {boxes}" in done.output
    assert sum(len(sample.boxes) for sample in store.list("alpha")) == 2


def test_labels_go_out_as_sigmf(run: Run, recording: Path, tmp_path: Path) -> None:
    run("add", "alpha", recording)
    path = Path(run("export", "alpha", tmp_path / "out", "--format", "sigmf").output.strip())
    assert path.name.startswith("street_") and len(json.loads(path.read_text())["annotations"]) == 3


def test_a_signal_without_samples_cannot_be_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no samples of 'alpha'; add some with `g20 samples add alpha FILE`"):
        run("export", "alpha", tmp_path / "out")
