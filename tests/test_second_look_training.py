"""Training of the second look: fits, types and operating points, on small seeded data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from engine.contract import ISM
from engine.errors import InputError
from engine.heads import VECTOR
from engine.recordings.annotation import Annotation
from engine.second_look.model import STAGES, Fit, read_look
from engine.second_look.settings import LookSettings
from engine.typed import TYPED
from engine.zoom import VALUES
from training.backbone.look_data import OTHER, SEEN, Seen, Source, numbered, read_source, write_arrays
from training.backbone.look_fit import FitSettings, by_source, target, train_fit
from training.backbone.look_operating import Rates, operating, threshold, weighted_quantile
from training.backbone.look_report import detect, tallies
from training.backbone.look_scenes import scene
from training.backbone.look_sources import labelled, origins
from training.backbone.look_table import Table, folds, worth_a_look
from training.backbone.look_training import Fitted, held_out_types
from training.backbone.look_types import NOTHING, PIECE, UNASKED, classes, train_types, weights
from training.backbone.second_look import evaluate, held_out_scores, main, write

RNG_SEED = 4


def capture(labels: list[str], candidates: int = 6) -> Seen:
    """One labelled box per label, one second apart; candidates lie on them in turn, each a little longer."""
    truths = np.array([(k, k + 0.1, 0.0, 100.0) for k in range(len(labels))], float).reshape(-1, 4)
    places = np.arange(candidates)
    on = places % max(len(labels) + 1, 1)
    boxes = np.column_stack([on, on + 0.1 + 0.02 * places, 0 * on, 0 * on + 100.0]).astype(float)
    vectors = np.zeros((candidates, VECTOR), np.float16)
    values = np.zeros((candidates, 12), np.float32)
    return Seen(boxes, vectors, values, truths, np.array(labels, "U24"), np.array(0.2))


def source(name: str, labels: list[str], kind: str = "recording", complete: bool = True) -> Source:
    return Source(name, kind, "ism", (capture(labels),), frozenset(labels) - {OTHER}, complete)


def rows_of(names: list[str], per: int, seed: int = RNG_SEED) -> Table:
    """`per` rows for each of the recordings, whose label (or "") they have at IoU 0.9; vectors differ by label."""
    rng = np.random.default_rng(seed)
    count = per * len(names)
    owner = np.repeat(np.array(names, "U24"), per)
    vectors = rng.normal(size=(count, VECTOR)).astype(np.float16)
    for place, label in enumerate(sorted(set(names))):
        vectors[owner == label, place] += 6
    index = np.repeat(np.arange(len(names)), per)
    return Table(
        index,
        index,
        np.tile(np.arange(per), len(names)),
        np.tile([0.0, 0.1, 0.0, 100.0], (count, 1)),
        vectors,
        np.zeros((count, 12), np.float32),
        np.zeros((count, 0), np.float16),
        np.zeros((count, 0), np.float16),
        np.where(owner == "", 0.0, 0.9),
        owner,
        np.zeros(count, bool),
        tuple(source(f"r{k}", [label] if label else []) for k, label in enumerate(names)),
    )


def found_of(rows: Table, fold: np.ndarray) -> Fitted:
    return Fitted(rows, fold[rows.source], np.full(len(rows), 3.0, np.float32), np.ones(len(rows), bool), {})


def test_a_fit_learns_what_separates_whole_signals_from_pieces() -> None:
    rng = np.random.default_rng(RNG_SEED)
    inputs = rng.normal(size=(900, 8)).astype(np.float32)
    whole = inputs[:, 2] > 0
    inputs[:, 2] += np.where(whole, 1, -1).astype(np.float32)
    fit = train_fit(inputs[:600], whole[:600].astype(float), np.ones(600), FitSettings(hidden=16, epochs=60))
    right = (fit.logits(inputs[600:], 6.0) > 0) == whole[600:]
    assert right.mean() > 0.95


def test_the_target_of_a_fit_is_half_where_boxes_begin_to_count() -> None:
    np.testing.assert_allclose(target(np.array([0.3, 0.35, 0.55, 0.75, 1.0])), [0, 0, 0.5, 1, 1], atol=1e-9)


def test_a_source_counts_as_the_root_of_its_rows() -> None:
    weight = by_source(np.array([0, 0, 0, 0, 1]), np.zeros(5, bool))
    assert weight[:4].sum() == pytest.approx(2 * weight[4])


def test_a_quantile_leaves_no_more_than_the_share_above_it() -> None:
    values = np.random.default_rng(RNG_SEED).normal(size=5000)
    least = weighted_quantile(values, np.ones(5000), 1e-2)
    assert (values > least).sum() == 50


def test_a_quantile_of_equal_values_is_that_value() -> None:
    assert weighted_quantile(np.full(9, 2.5), np.ones(9), 0.1) == 2.5


def test_a_threshold_obeys_the_rates_of_nothing_and_of_other_types() -> None:
    rng = np.random.default_rng(RNG_SEED)
    values, nothing = rng.normal(size=20000), np.arange(20000) % 2 == 0
    least = threshold(values, np.zeros(20000, np.int64), nothing, ~nothing, Rates(1e-3, 1e-2))
    assert (values[nothing] > least).mean() <= 1e-3
    assert (values[~nothing] > least).mean() <= 1e-2


def test_a_recording_with_many_false_alarms_counts_as_one_recording() -> None:
    source_of = np.concatenate([np.zeros(5000, np.int64), np.repeat(np.arange(1, 200), 10)])
    values = np.concatenate([np.full(5000, 9.0), np.zeros(1990)])
    others = np.ones(len(values), bool)
    assert threshold(values, source_of, ~others, others, Rates(1e-3, 1e-2)) == 0.0


def test_an_operating_point_does_not_count_the_heads_own_family_as_others() -> None:
    rows = rows_of(["ook_remote", "ook_sensor", "gsm", ""], 50)
    types = np.where(rows.owner == "ook_sensor", 50.0, 0.0)
    point = operating("ook_remote", types, np.zeros(len(rows)), rows, np.ones(len(rows), bool))
    assert point[0] == 0.0


def test_pieces_of_other_types_are_negatives() -> None:
    rows = rows_of(["gsm", "zwave", ""], 30)
    rows = replace(rows, overlap=np.where(rows.owner == "gsm", 0.2, rows.overlap))
    names = classes(rows)
    assert set(names) == {PIECE + "gsm", "zwave", NOTHING}
    assert weights(names, rows.source)[names == PIECE + "gsm"].sum() == pytest.approx(0.5)


def test_what_lies_outside_the_boxes_of_an_incomplete_recording_is_not_asked() -> None:
    rows = rows_of(["gsm", ""], 5)
    rows = replace(rows, sources=(rows.sources[0], source("noisy", [], complete=False)))
    assert set(classes(rows)[rows.source == 1]) == {UNASKED}


def test_types_tell_labels_apart() -> None:
    rows = rows_of(["gsm", "zwave", ""], 60)
    weight = train_types(rows.vectors.astype(np.float32), classes(rows), rows.source, ["gsm", "zwave"])
    best = (weight @ rows.vectors.astype(np.float32).T).argmax(axis=0)
    assert (best[rows.owner == "gsm"] == 0).mean() > 0.95
    assert (best[rows.owner == "zwave"] == 1).mean() > 0.95


def test_a_left_out_recording_takes_no_part_in_the_types_that_judge_it() -> None:
    rows = rows_of(["gsm", "gsm", "zwave", "zwave", ""], 12)
    fold = np.array([0, 1, 0, 1, 1])
    names = classes(rows)
    before = held_out_types(found_of(rows, fold), names, ["gsm", "zwave"], ISM.hash)
    wrong = np.where(rows.source == 0, "zwave", names)  # of recording 0, in fold 0
    after = held_out_types(found_of(rows, fold), wrong, ["gsm", "zwave"], ISM.hash)
    held_out = fold[rows.source] == 0
    np.testing.assert_array_equal(before[:, held_out], after[:, held_out])
    assert not np.array_equal(before[:, ~held_out], after[:, ~held_out])


def test_a_left_out_recording_takes_no_part_in_the_threshold_that_judges_it() -> None:
    rows = rows_of(["gsm", "zwave", "zwave", ""], 20)
    found = found_of(rows, np.array([0, 0, 1, 1]))
    types = np.random.default_rng(RNG_SEED).normal(size=(1, len(rows)))
    raised = np.where(rows.source == 1, types + 100, types)  # negatives of fold 0
    before, after = (held_out_scores(found, each, ["gsm"]) for each in (types, raised))
    np.testing.assert_array_equal(before[:, rows.source == 0], after[:, rows.source == 0])
    assert not np.array_equal(before[:, rows.source == 3], after[:, rows.source == 3])


def test_folds_spread_the_recordings_of_a_label_and_leave_scenes_out() -> None:
    sources = [source(f"r{k}", ["gsm"]) for k in range(4)] + [source("s", ["generated"], "scene")]
    found = folds(sources, 4)
    assert sorted(found[:4]) == [0, 1, 2, 3]
    assert found[4] == -1


def test_a_detection_of_another_label_is_a_false_alarm_a_second() -> None:
    first = source("a", ["gsm"])
    seen = first.captures[0]
    one = replace(
        rows_of(["gsm"], len(seen.boxes)), boxes=seen.boxes, overlap=seen.best_iou, owner=seen.owner, sources=(first,)
    )
    over = np.full((2, len(one)), -1.0)
    over[0, 0], over[1, 1] = 2.0, 1.0  # candidate 0 is the signal, 1 lies beside it
    tally = tallies(detect(over, one, np.ones(len(one), bool), LookSettings()), one, ["gsm", "zwave"])
    assert (tally["gsm"].f1, tally["gsm"].alarms) == (1.0, 0)
    assert tally["zwave"].alarms_per_s == pytest.approx(1 / 0.2)


def test_candidates_on_signals_of_no_type_are_ignored() -> None:
    seen = capture([OTHER])
    assert seen.ignored[0]
    assert not seen.ignored[1]


def test_the_best_candidate_of_each_truth_is_looked_at_whatever_the_fit_says() -> None:
    seen = capture(["gsm", "zwave"])
    chosen = worth_a_look(seen, [np.arange(len(seen.boxes), dtype=float)], places=1, most_iou=0.6, seed=0)
    assert {0, 1} <= set(chosen.tolist())


def test_a_cached_source_is_read_as_it_was_written(tmp_path: Path) -> None:
    seen, path = capture(["gsm", OTHER]), tmp_path / "a.npz"
    write_arrays(path, {"contract": "ism", "kind": "recording", **numbered([seen], SEEN)})
    known = read_source(path)
    assert known is not None
    assert (known.labels, known.contract) == (frozenset({"gsm"}), "ism")
    np.testing.assert_array_equal(known.captures[0].boxes, seen.boxes)


def test_a_damaged_cache_file_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"contract": "ism", "kind": "recording", **numbered([capture([])], SEEN)})
    path.write_bytes(path.read_bytes()[:200])
    assert read_source(path) is None


def test_boxes_of_which_little_is_inside_the_capture_are_of_no_type() -> None:
    notes = (Annotation("gsm", 0.0, 0.2, -50.0, 50.0), Annotation("btle", 0.19, 0.4, -50.0, 50.0))
    truths, labels = labelled(notes, ISM, start_s=0.0, valid_s=0.2, centre_hz=0.0)
    assert labels == ["gsm", OTHER]
    assert truths[1, 1] == 0.2


def test_the_label_btle_is_read_as_ble() -> None:
    assert labelled((Annotation("btle", 0.0, 0.1, -1.0, 1.0),), ISM, 0.0, 0.2, 0.0)[1] == ["ble"]


@pytest.mark.parametrize("seed", [0, 5])
def test_the_same_seed_gives_the_same_scene_with_boxes_inside_it(seed: int) -> None:
    iq, contract, valid_s, truths, labels = scene(seed)
    again = scene(seed)
    np.testing.assert_array_equal(iq, again[0])
    assert len(iq) == contract.capture_samples
    assert len(truths) == len(labels)
    assert (truths[:, 1] > truths[:, 0]).all()
    assert (truths[:, :2] >= 0).all()
    assert (truths[:, :2] <= valid_s).all()


def test_what_is_written_is_a_second_look_and_heads_that_the_engine_reads(tmp_path: Path) -> None:
    rows = rows_of(["gsm", "gsm", "zwave", "zwave", ""], 4)
    rows = replace(rows, zoomed=np.random.default_rng(RNG_SEED).normal(size=(len(rows), VALUES)).astype(np.float16))
    fits = {
        stage: Fit(*(np.zeros(shape, np.float32) for shape in ((size,), (size,), (size, 3), (3,), (3,), (1,))))
        for stage, size in STAGES.items()
    }
    found = replace(found_of(rows, np.array([0, 1, 0, 1, 1])), fits=fits)
    types = np.zeros((2, len(rows)))
    write(tmp_path, found, types, ["gsm", "zwave"], evaluate(found, types, ["gsm", "zwave"]), "ism")
    assert read_look((tmp_path / "look.safetensors").read_bytes(), "look").contract_hash == ISM.hash
    for label in ("gsm", "zwave"):
        head = load((tmp_path / "heads" / f"{label}.safetensors").read_bytes())
        assert {name: array.shape for name, array in head.items()} == TYPED
    assert set(json.loads((tmp_path / "report.json").read_text())["labels"]) == {"gsm", "zwave"}


def test_noises_and_scenes_take_turns_with_names_of_their_own(tmp_path: Path) -> None:
    assert [origin.name for origin in origins(tmp_path, 2, 1)] == ["noise-0000", "noise-0001", "scene-0000"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.sigmf-meta"):
        main([str(tmp_path), str(tmp_path), "--contract", "ism", "--out", str(tmp_path)])
