"""Labels out and in: what an annotation tool gets is what comes back, and nothing from outside is trusted."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sigmf import validate

from engine.contract import WIDEBAND
from engine.errors import InputError, StoreError
from training.samples.labels import coco_in, coco_out, sigmf_out, sigmf_write
from training.samples.sample import Box
from training.samples.splits import last_split
from training.samples.store import SampleStore

from .labelled import BOX, CENTRE_HZ, drawn, put
from .tiny_store import CONTRACT, edit

OTHERS = (Box(0.125, 1, 2.375, 1024, "beta"), Box(3, 3, 4, 4, "other"))


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    """Three samples of alpha, the last one without boxes."""
    store = SampleStore(tmp_path / "data")
    for seed, boxes in enumerate(((BOX, *OTHERS), (BOX,), ())):
        put(store, seed, boxes, time_offset_sec=seed / 4, center_freq_hz=CENTRE_HZ if seed else None)
    return store


@pytest.fixture
def coco(store: SampleStore, tmp_path: Path) -> Path:
    return coco_out(store.list("alpha"), tmp_path / "coco")


def table(path: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())[name]
    return rows


def test_samples_go_through_coco_unchanged(store: SampleStore, coco: Path, tmp_path: Path) -> None:
    there = SampleStore(tmp_path / "there")
    coco_in(there, "alpha", coco.parent, contract=CONTRACT)
    kept = ("sample_id", "boxes", "source_capture", "time_offset_sec", "center_freq_hz", "created_by", "image_sha256")
    assert [[getattr(s, k) for k in kept] for s in there.list("alpha")] == [
        [getattr(s, k) for k in kept] for s in store.list("alpha")
    ]
    assert (there.list("alpha")[0].image() == store.list("alpha")[0].image()).all()


def test_the_coco_tables_are_what_tools_expect(store: SampleStore, coco: Path) -> None:
    assert [c["name"] for c in table(coco, "categories")] == ["alpha", "beta", "other"]
    wide = next(a for a in table(coco, "annotations") if a["category_id"] == 2)
    assert (wide["bbox"], wide["area"], wide["iscrowd"]) == ([0.125, 1, 2.25, 1023], 2.25 * 1023, 0)
    for entry in table(coco, "images"):
        with Image.open(coco.parent / entry["file_name"]) as image:
            assert (image.size, image.mode) == ((entry["width"], entry["height"]), "L")


def test_what_comes_back_unchanged_changes_nothing(store: SampleStore, coco: Path) -> None:
    before = store.list("alpha")
    assert sorted(s.sample_id for s in coco_in(store, "alpha", coco, contract=CONTRACT)) == [
        s.sample_id for s in before
    ]
    assert store.list("alpha") == before


def test_corrected_boxes_take_the_place_of_the_old_ones_on_the_same_side(store: SampleStore, tmp_path: Path) -> None:
    for seed in range(3, 8):
        put(store, seed)
    split = store.current_split("alpha")
    old = store.get("alpha", split.val_samples[0])
    path = coco_out([old], tmp_path / "coco")
    rows = [{**row, "bbox": [1, 2, 3, 4]} for row in table(path, "annotations")]
    # a tool that keeps nothing of our own entries
    images = [{key: row[key] for key in ("id", "file_name", "width", "height")} for row in table(path, "images")]
    edit(path, annotations=rows, images=images)
    (new,) = coco_in(store, "alpha", path, contract=CONTRACT)
    assert (new.boxes[0], new.source_capture) == (Box(1, 2, 4, 6, old.boxes[0].label), old.source_capture)
    assert old.sample_id not in {s.sample_id for s in store.list("alpha")}
    assert store.current_split("alpha").sides[new.sample_id] == "validation"


def test_images_from_elsewhere_are_samples_of_recordings_of_their_own(store: SampleStore, tmp_path: Path) -> None:
    Image.fromarray(drawn(9)).convert("RGB").save(tmp_path / "shot.png")
    tables = {
        "images": [{"id": 7, "file_name": "shot.png"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]},
                        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [10, 10, 3, 4], "iscrowd": 1}],
        "categories": [{"id": 3, "name": "WiFi"}],
    }  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(tables))
    (sample,) = coco_in(store, "gamma", tmp_path / "labels.json", contract=CONTRACT, label="WiFi", side="train")
    assert (sample.source_capture, sample.side) == ("shot.png", "train")
    assert sample.own_boxes.tolist() == [[1, 2, 4, 6], [10, 10, 13, 14]] and len(sample.boxes) == 2
    assert (sample.image() == drawn(9)).all()


def test_images_of_another_front_end_are_refused(store: SampleStore, coco: Path, tmp_path: Path) -> None:
    for target in (store, SampleStore(tmp_path / "there")):
        with pytest.raises(InputError, match=f"made by front-end contract {CONTRACT.hash}, wanted is {WIDEBAND.hash}"):
            coco_in(target, "alpha", coco, contract=WIDEBAND)
    assert len(store.list("alpha")) == 3


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "images/../../out.png", "link.png", None, 3])
def test_file_names_do_not_lead_out_of_the_folder(store: SampleStore, coco: Path, tmp_path: Path, name: Any) -> None:
    Image.fromarray(drawn()).save(tmp_path / "out.png")
    (coco.parent / "link.png").symlink_to(tmp_path / "out.png")
    edit(coco, images=[{**row, "file_name": name} for row in table(coco, "images")])
    with pytest.raises(InputError, match="leads out of the folder"):
        coco_in(store, "alpha", coco, contract=CONTRACT)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [("annotations", {"bbox": [1, 2, 3]}, "bbox"), ("annotations", {"bbox": None}, "bbox"),
     ("annotations", {"bbox": [1, 2, "3", 4]}, "bbox"), ("annotations", {"bbox": [1, 2, 0, 4]}, "no area"),
     ("annotations", {"bbox": [1, 2, -3, 4]}, "no area"), ("annotations", {"bbox": [2000, 2, 3, 4]}, "no area"),
     ("annotations", {"category_id": 99}, "not listed"), ("annotations", {"category_id": "1"}, "whole number"),
     ("annotations", {"image_id": 99}, "not listed"), ("annotations", {"image_id": None}, "whole number"),
     ("images", {"id": True}, "whole number"), ("categories", {"name": ""}, "a label is"),
     ("images", {"spectrogram_params": {"n_fft": 3, "odd": 1}}, "spectrogram_params"),
     ("images", {"spectrogram_params": []}, "spectrogram_params"), ("images", {"time_offset_sec": "x"}, "no text or"),
     ("images", {"center_freq_hz": []}, "no text or"), ("images", {"source_capture": ""}, "no text or"),
     ("images", {"file_name": "nothing.png"}, "cannot be read as PNG"),
     ("images", {"file_name": "a\0.png"}, "cannot be read as PNG"),
     ("images", {"time_offset_sec": 1e308}, "no text or number"),
     ("images", {"time_offset_sec": 10**18}, "no text or number")],
    ids=str,
)  # fmt: skip
def test_tables_that_lie_are_refused(
    coco: Path, tmp_path: Path, part: str, changes: dict[str, Any], words: str
) -> None:
    there = SampleStore(tmp_path / "there")
    edit(coco, **{part: [{**row, **changes} for row in table(coco, part)]})
    with pytest.raises(InputError, match=rf"annotations\.json.*{words}|nothing\.png: {words}"):
        coco_in(there, "alpha", coco, contract=CONTRACT)
    assert there.list("alpha") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"images": 3}',
        '{"categories": [1], "annotations": [], "images": []}',
        '{"images": [{"file_name": "\\ud800.png"}]}',
        '{"images": [{"time_offset_sec": 1' + "0" * 400 + "}]}",
    ],
)
def test_files_that_are_no_coco_are_refused(store: SampleStore, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises((InputError, StoreError), match=r"labels\.json"):
        coco_in(store, "alpha", tmp_path / "labels.json", contract=CONTRACT)


def test_pictures_of_another_size_or_kind_are_refused_unread(store: SampleStore, coco: Path) -> None:
    (entry, *_) = table(coco, "images")
    path = coco.parent / entry["file_name"]
    for picture in (Image.new("L", (4000, 4000)), Image.new("L", (1024, 1023)), Image.new("I;16", (1024, 1024))):
        picture.save(path)
        with pytest.raises(InputError, match="a sample is a grey PNG of 1024 x 1024"):
            coco_in(store, "alpha", coco, contract=CONTRACT)
    Image.fromarray(drawn()).save(path, format="TIFF")
    with pytest.raises(InputError, match="cannot be read as PNG"):
        coco_in(store, "alpha", coco, contract=CONTRACT)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as PNG"):
        coco_in(store, "alpha", coco, contract=CONTRACT)
    header = b"IHDR" + struct.pack(">II", 50_000, 50_000) + bytes([8, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)))
    with pytest.raises(InputError, match="cannot be read as PNG"):
        coco_in(store, "alpha", coco, contract=CONTRACT)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(InputError, match="cannot be read as PNG"):
        coco_in(store, "alpha", coco, contract=CONTRACT)


def test_sigmf_has_the_boxes_of_a_recording_in_its_own_time(store: SampleStore) -> None:
    documents = sigmf_out(store.list("alpha"))
    assert list(documents) == ["recording 0", "recording 1", "recording 2"]
    document = documents["recording 1"]
    (wanted,) = next(s for s in store.list("alpha") if s.source_capture == "recording 1").annotations
    (found,) = document["annotations"]
    assert found["core:sample_start"] == round(wanted.start_s * CONTRACT.sample_rate_hz)
    assert (found["core:freq_lower_edge"], found["core:label"]) == (wanted.low_hz, "alpha")
    assert document["captures"] == [{"core:sample_start": 0, "core:frequency": CENTRE_HZ}]
    for each in documents.values():
        validate.validate(each)


def test_sigmf_is_written_under_the_recordings_name(store: SampleStore, tmp_path: Path) -> None:
    put(store, 8, source_capture="../up/street.sigmf-meta#0123456789abcdef")
    names = [path.name for path in sigmf_write(store.list("alpha"), tmp_path / "out")]
    assert "_up_street_0123456789abcdef.sigmf-meta" in names
    assert sorted(names) == sorted(path.name for path in (tmp_path / "out").iterdir())


def test_samples_of_one_source_with_two_centres_are_not_one_recording(store: SampleStore) -> None:
    put(store, 5, source_capture="recording 1", center_freq_hz=2e9)
    with pytest.raises(InputError, match="recording 1: its samples differ in rate or centre"):
        sigmf_out(store.list("alpha"))


def test_the_image_itself_is_what_is_exported(store: SampleStore, coco: Path) -> None:
    (sample, *_) = store.list("alpha")
    with Image.open(coco.parent / f"images/{sample.sample_id}.png") as image:
        assert (np.asarray(image) == sample.image()).all()
    assert last_split(store.splits_folder("alpha")) is None
