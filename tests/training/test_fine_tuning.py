"""Fine-tuning: what stays to the bit, what is estimated anew, what fits, and who is not tested."""

import dataclasses
import itertools
import os
import shutil
import signal

import numpy as np
import pytest
import torch

import sleeptools
from sleeptools import registry, store
from sleeptools.commands.evaluate import evaluate
from sleeptools.commands.score.paths import model_at
from sleeptools.commands.train import TrainOptions, train
from sleeptools.commands.verify import verify
from sleeptools.errors import DataError, MissingInputError, OutputError, Stopped, UsageError
from sleeptools.models.folder import build_model, load_model, save_model
from sleeptools.models.recipe.recipe import FINE_TUNING, Recipe, fine_tuning_recipe
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs, read_epoch_file, write_epoch_file
from sleeptools.runs import model_folder
from sleeptools.runs.leakage import learnt_subjects, night_marks
from sleeptools.runs.parent import tuned_on_real
from sleeptools.runs.run import open_run, run_progress
from sleeptools.training.fine_tuning import Tuned, group_modules
from sleeptools.training.options import merge_options, options_from_settings
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = registry.names("models")
NARROW = {
    "slumbernet": {"blocks": 5, "filters": 4, "epoch_seconds": 1.0},
    "mouse-transformer": {"layers": 2},
    "salientsleepnet": {"sequence": 11, "filters": 4},
    "spectral": {"sequence": 4},
}
MONTAGE = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
OTHER_MONTAGE = ["EEG C4-M1", "EEG O2-M1", "EOG E1-M2", "EMG chin"]
FOLD = "leak-free/seed-0/fold-00"


def narrow(name):
    return registry.load("models", name).Config(**NARROW.get(name, {}))


def epochs_of(config, folder, **facts):
    names = ("W", "N1", "N2", "N3", "REM") if config.stages == 5 else ("Wake", "NREM", "REM")
    size = {
        "channels": config.channels,
        "sample_rate": config.sample_rate,
        "epoch_seconds": config.epoch_seconds,
    }
    return write_epochs(folder, **{"subjects": 2, "count": 12, "names": names} | size | facts)


def parent_of(name, folder, data, **facts):
    """Make a model folder of fresh weights, as if subjects P00 and P01 had trained it."""
    torch.manual_seed(1)
    model = build_model(name, NARROW.get(name))
    about = {
        "montage": list(data.montage),
        "sample_rate": data.sample_rate,
        "epoch_seconds": data.epoch_seconds,
        "stages": list(data.names),
        "preprocessing": {"preset": data.manifest["preset"]},
        "simulated": False,
        "protocol": "final",
        "seed": 0,
        "train_subjects": ["P00", "P01"],
    }
    save_model(model, folder, about | facts)
    return folder


def tuning(parent, **given):
    recipe = {"batch": 4, "weight_decay": 0.1} | given.pop("recipe", {})
    basis = {"parent": parent, "folds": 2, "fold": 0, "passes": 1, "explain": False, "threads": 1}
    return TrainOptions(**basis | given, settings={"recipe": recipe})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A parent of ULW-SleepNet, and epochs of others by other labels."""
    place = tmp_path_factory.mktemp("small")
    data = write_epochs(place / "epochs", subjects=4, count=12, montage=OTHER_MONTAGE)
    theirs = write_epochs(place / "theirs", subjects=2, count=4, prefix="P", montage=MONTAGE)
    return parent_of("ulw-sleepnet", place / "parent", open_epochs(theirs)), data


# --- every model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_part_is_in_a_group(name):
    model = build_model(name, NARROW.get(name))
    groups = group_modules(model)
    assert {"encoder", "classifier"} <= set(groups)

    def parameters(group):
        return {id(p) for part in groups[group] for p in part.parameters()}

    everything = {id(p) for p in model.parameters()}
    assert parameters("encoder") | parameters("classifier") == everything
    assert not parameters("encoder") & parameters("classifier")
    for group in set(groups) - {"classifier"}:
        assert parameters(group) <= parameters("encoder")


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parts_stay_to_the_bit_and_others_learn(name, tmp_path):
    config = narrow(name)
    data = epochs_of(config, tmp_path / "epochs")
    parent = parent_of(name, tmp_path / "parent", open_epochs(data))
    before = load_model(parent)
    frozen = group_modules(before)["encoder"]
    run = tmp_path / "run"
    train(data, run, tuning(parent, recipe={"freeze": ["encoder"], "learning_rate": 0.01}))
    after = load_model(run / FOLD)
    still = {
        key
        for key, value in before.state_dict(keep_vars=True).items()
        if any(value is v for part in frozen for v in part.state_dict(keep_vars=True).values())
    }
    assert still
    assert len(still) < len(before.state_dict())
    for key, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[key]) == (key in still), key


@pytest.mark.parametrize(
    ("name", "group"),
    [(n, g) for n in NAMES for g in registry.load("models", n).GROUPS if g != "encoder"],
)
def test_gradients_pass_through_what_is_frozen(name, group, tmp_path):
    config = narrow(name)
    torch.manual_seed(0)
    model = build_model(name, NARROW.get(name))
    tuned = Tuned(model, Recipe(freeze=(group,)))
    span = config.input_span
    epochs = (
        [span.sequence] if span.sequence > 1 else [2 * span.context + 1] if span.context else []
    )
    samples = round(config.sample_rate * config.epoch_seconds)
    x = torch.randn(4, *epochs, config.channels, samples) * 20
    tuned.train()(x).square().mean().backward()
    frozen = {id(p) for m in tuned.frozen for p in m.parameters()}
    learning = [p for p in model.parameters() if id(p) not in frozen and p.requires_grad]
    assert all(p.grad is None for p in model.parameters() if id(p) in frozen)
    assert sum(p.grad is not None and bool(p.grad.any()) for p in learning) > len(learning) / 2


@pytest.mark.parametrize("name", NAMES)
def test_the_statistics_are_those_of_the_new_epochs(name, tmp_path):
    """Of a model that learns next to nothing, the statistics are of the epochs, without dropout."""
    config = narrow(name)
    data = epochs_of(config, tmp_path / "epochs", seed=3)
    parent = parent_of(name, tmp_path / "parent", open_epochs(data))
    train(data, tmp_path / "run", tuning(parent, recipe={"batch": 64, "learning_rate": 1e-12}))
    before, after = load_model(parent), load_model(tmp_path / "run" / FOLD)
    means = [key for key in before.state_dict() if key.endswith("running_mean")]
    if not means:
        assert name in {"mouse-transformer", "spectral"}
        return
    changed = [not torch.equal(before.state_dict()[k], after.state_dict()[k]) for k in means]
    assert all(changed)
    module = next(
        m for m in after.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
    )
    seen = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.train()  # so that no native op passes it by
    for owner in after.modules():
        if module in owner.modules():
            owner.training = True
    own = open_epochs(data)
    numbers = own.numbers_of({*model_folder.read_config(tmp_path / "run" / FOLD)["train_subjects"]})
    from sleeptools.training.batches import windows

    arranged = windows(after, own, numbers)
    mean = module.running_mean.clone()
    with torch.no_grad():
        after(torch.from_numpy(own.gather(arranged.inputs)))
    axes = [i for i in range(seen[0].dim()) if i != 1]
    torch.testing.assert_close(mean, seen[0].mean(axes), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_for_fine_tuning(name):
    module = registry.load("models", name)
    recipe = fine_tuning_recipe(module)
    assert recipe.variant == FINE_TUNING
    changes = getattr(module, "FINE_TUNING", {})
    expected = changes.get("learning_rate", module.RECIPE.learning_rate / 10)
    assert recipe.learning_rate == pytest.approx(expected)
    assert recipe.batch <= 32
    assert recipe.schedule.kind == "one_cycle"
    assert recipe.class_weights == module.RECIPE.class_weights


# --- what is frozen and estimated -----------------------------------------------------------------


def statistics(folder):
    arrays = model_folder.read_weights(folder)
    return {k: np.array(v) for k, v in arrays.items() if "running" in k}


@pytest.mark.parametrize(("kept", "same"), [("new", True), ("all", False), ("kept", True)])
def test_statistics_of_frozen_parts(small, tmp_path, kept, same):
    parent, data = small
    recipe = {"freeze": ["encoder"], "batch_norm": kept}
    train(data, tmp_path / "run", tuning(parent, recipe=recipe))
    before, after = statistics(parent), statistics(tmp_path / "run" / FOLD)
    assert all(np.array_equal(before[k], after[k]) for k in before) == same


def test_statistics_may_be_the_parents(small, tmp_path):
    parent, data = small
    train(data, tmp_path / "run", tuning(parent, recipe={"batch_norm": "kept"}))
    before, after = statistics(parent), statistics(tmp_path / "run" / FOLD)
    assert all(np.array_equal(before[k], after[k]) for k in before)
    weights = [
        model_folder.read_weights(f)["linear1.weight"] for f in (parent, tmp_path / "run" / FOLD)
    ]
    assert not np.array_equal(*weights)


@pytest.mark.parametrize(
    ("recipe", "words", "hint"),
    [
        ({"freeze": ["encodr"]}, "unknown setting 'encodr'; there are: encoder", "'encoder'"),
        ({"freeze": ["encoder", "classifier"]}, "nothing would be left to train", "block1"),
    ],
)
def test_wrong_parts(small, tmp_path, recipe, words, hint):
    parent, data = small
    with pytest.raises(UsageError, match=words) as e:
        train(data, tmp_path / "run", tuning(parent, recipe=recipe))
    assert e.value.exit_code == 2
    assert hint in e.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "recipe", [{"freeze": ["encoder"]}, {"batch_norm": "all"}, {"variant": FINE_TUNING}]
)
def test_nothing_is_frozen_without_a_parent(small, tmp_path, recipe):
    options = TrainOptions("ulw-sleepnet", folds=2, passes=1, settings={"recipe": recipe})
    with pytest.raises(UsageError, match="without `parent`"):
        train(small[1], tmp_path / "run", options)


# --- what a run says of its parent ----------------------------------------------------------------


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A run with all folds and the final model."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    said = []
    train(small[1], folder, tuning(small[0], fold=None, final=True, passes=2), log=said.append)
    return folder, said


def test_the_parent_is_in_every_file(small, run):
    folder, said = run
    parent, _ = small
    weights = store.sha256(parent / "model.safetensors")
    config = store.read_toml(folder / "config.toml")
    assert config["parent"] == {"name": "ulw-sleepnet", "weights": weights}
    assert config["recipe"]["variant"] == FINE_TUNING
    manifest = store.read_manifest(folder, "sleeptools-run")["parent"]
    assert manifest["subjects"] == ["P00", "P01"]
    assert manifest["nights"]["count"] == 0  # it was made by hand
    assert manifest["leakage"] == "none of the 4 tested subjects trained or validated the model"
    for model in (FOLD, "final"):
        facts = model_folder.read_config(folder / model)
        assert facts["parent"]["weights"] == weights
        assert facts["parent"]["trained_as"] == {"protocol": "final", "seed": 0}
        assert learnt_subjects(facts) >= {"P00", "P01", *facts["train_subjects"]}
    assert any(line.startswith("fine-tuned from ulw-sleepnet (final, seed 0") for line in said)
    assert any("EEG C4-M1 for EEG Fpz-Cz" in line for line in said)


def test_status_verify_and_evaluate_know_it(small, run):
    folder, _ = run
    assert run_progress(folder)["parent"]["name"] == "ulw-sleepnet"
    assert verify(folder).problems == []
    evaluation = evaluate(folder)
    assert "the parent: none of the 4 tested subjects" in evaluation.leakage
    notes = " ".join(evaluation.notes)
    assert "Fine-tuned from ulw-sleepnet" in notes
    assert "Channels stand in for the parent's" in notes
    assert evaluation.run.parent["name"] == "ulw-sleepnet"


def test_verify_finds_a_model_of_another_parent(run, tmp_path):
    copy = shutil.copytree(run[0], tmp_path / "run")
    config = store.read_toml(copy / "config.toml")
    weights = config["parent"]["weights"]
    config["parent"]["weights"] = "0" * 64
    store.write_toml(copy / "config.toml", config)
    manifest = store.read_json(copy / "manifest.json")
    manifest["files"]["config.toml"] = store.sha256(copy / "config.toml")
    store.write_json(copy / "manifest.json", manifest)
    problems = verify(copy).problems
    assert f"{FOLD}: began with weights {weights}; config.toml says {'0' * 64}" in problems
    assert any(line.startswith("final: ") for line in problems)


def test_a_run_is_not_called_comparable_with_printed_results(run):
    from sleeptools.evaluation.comparison import study_designs
    from sleeptools.evaluation.published import published_results
    from sleeptools.evaluation.published.study_design import compare_designs

    design = study_designs(evaluate(run[0]))["leak-free"]
    printed = published_results("human").to_dicts()[0]
    told = "ours is fine-tuned, and has learnt from other subjects, too"
    assert told in compare_designs(design, printed).differences
    begun_anew = dataclasses.replace(design, fine_tuned=False)
    assert told not in compare_designs(begun_anew, printed).differences


def test_a_stop_costs_no_bit(small, run, tmp_path):
    whole, again = run[0], tmp_path / "run"
    options = tuning(small[0], fold=None, final=True, passes=2)
    for left in itertools.cycle((1, 3, 4)):

        def stop(progress, left=left, seen=[]):  # noqa: B006
            seen.append(progress)
            if len(seen) == left:
                os.kill(os.getpid(), signal.SIGTERM)

        try:
            train(small[1], again, options, on_progress=stop)
            break
        except Stopped:
            assert not (again / "manifest.json").exists()
    paths = sorted(p.relative_to(whole) for p in whole.rglob("model.safetensors"))
    assert len(paths) == 3
    for path in paths:
        assert (whole / path).read_bytes() == (again / path).read_bytes()


def test_another_parent_is_another_run(small, run, tmp_path):
    other = parent_of("ulw-sleepnet", tmp_path / "other", open_epochs(small[1]), seed=1)
    arrays = {k: np.array(v) for k, v in model_folder.read_weights(other).items()}
    arrays["linear2.bias"] += 1
    facts = {k: v for k, v in model_folder.read_config(other).items() if "sha256" not in k}
    model_folder.write_model_folder(other, facts, arrays)
    with pytest.raises(OutputError, match=r"parent\.weights: "):
        train(small[1], run[0], tuning(other, fold=None, final=True, passes=2))


def test_a_run_is_repeated_from_its_config_with_its_parent(small, run, tmp_path):
    config = run[0] / "config.toml"
    with pytest.raises(UsageError, match="fine-tuned from a model"):
        merge_options(config)
    options = merge_options(config, parent=small[0], threads=1, explain=False)
    train(small[1], tmp_path / "run", options)
    assert store.read_toml(tmp_path / "run/config.toml") == store.read_toml(config)
    assert "parent" not in options_from_settings(store.read_toml(config))


def test_the_model_is_the_parents(small):
    assert merge_options(None, parent=small[0]).model == "ulw-sleepnet"
    with pytest.raises(UsageError, match="the parent is ulw-sleepnet"):
        merge_options(None, parent=small[0], model="attnsleep")


# --- simulated nights -----------------------------------------------------------------------------


def real(folder, **given):
    """Write epochs that say that they are of real nights."""
    data = write_epochs(folder, **given)
    for path in sorted(data.glob("*.safetensors")):
        file = read_epoch_file(path)
        facts = {k: v for k, v in file.facts.items() if k not in {"format", "version"}}
        arrays = {"stages": file.stages, "onset": file.onset, "hypnogram": file.hypnogram}
        signals = np.array(file.signals)
        write_epoch_file(path, signals=signals, **arrays, facts=facts | {"simulated": False})
    facts = store.read_json(data / "manifest.json")
    kept = ("montage", "sample_rate", "epoch_seconds", "stages", "recordings", "preset")
    manifest = store.Manifest("sleeptools-epochs", 1, {key: facts[key] for key in kept})
    manifest.write(data, sorted(data.glob("*.safetensors")))
    return data


@pytest.mark.parametrize(("said", "stays"), [(True, True), (False, False), (None, None)])
def test_a_model_stays_simulated(small, tmp_path, said, stays):
    """The model is simulated as its parent is; what it is tested on is real."""
    data = real(tmp_path / "real", subjects=2, count=12, montage=MONTAGE)
    parent = shutil.copytree(small[0], tmp_path / "parent")
    facts = {k: v for k, v in model_folder.read_config(parent).items() if "sha256" not in k}
    facts.pop("simulated")
    facts |= {} if said is None else {"simulated": said}
    model_folder.write_model_folder(parent, facts, model_folder.read_weights(parent))
    train(data, tmp_path / "run", tuning(parent, fold=None))
    assert model_folder.read_config(tmp_path / "run" / FOLD).get("simulated") is stays
    assert tuned_on_real(model_folder.read_config(tmp_path / "run" / FOLD)) is bool(said)
    assert open_run(tmp_path / "run").simulated is False
    (tmp_path / "run/manifest.json").unlink()
    assert open_run(tmp_path / "run").simulated is False


def test_what_score_says_of_a_model_of_simulated_parents(small, tmp_path):
    from sleeptools.commands.score.scoring import SIMULATED_PARENT, SIMULATED_TRAINING
    from sleeptools.datasets.simulation.night import simulate_night

    simulated = simulate_night(0, 1, hours=0.1).recording
    facts = {k: v for k, v in simulated.facts.items() if k != "simulated"}
    night = dataclasses.replace(simulated, facts=facts)
    preset = presets.load("sleep-edf").model_dump(mode="json")
    own = {"preprocessing": {"preset": preset}, "simulated": True}
    model = parent_of("ulw-sleepnet", tmp_path / "plain", open_epochs(small[1]), **own)
    assert SIMULATED_TRAINING in sleeptools.score(night, model).warnings
    own |= {"parent": {"simulated": True}, "trained_on": {"simulated": False}}
    model = parent_of("ulw-sleepnet", tmp_path / "tuned", open_epochs(small[1]), **own)
    assert SIMULATED_PARENT in sleeptools.score(night, model).warnings


def test_from_the_model_that_ships(tmp_path):
    """One lead of any name; nothing is known of who trained it, but that they were simulated."""
    data = real(tmp_path / "real", subjects=2, count=20, channels=1, montage=["EEG F3-M2"])
    said = []
    train(data, tmp_path / "run", tuning(model_at("default")), log=said.append)
    assert any("does not say who trained it" in line for line in said)
    facts = model_folder.read_config(tmp_path / "run" / FOLD)
    assert (facts["model"], facts["config"]["members"], facts["simulated"]) == ("spectral", 3, True)


# --- leakage --------------------------------------------------------------------------------------


def test_who_trained_the_parent_is_not_tested(small, tmp_path):
    data = write_epochs(
        tmp_path / "epochs", subjects=3, count=12, prefix="P", montage=MONTAGE, seed=9
    )
    with pytest.raises(DataError, match=r"trained the model: P00, P01 \(2 of 3\)") as e:
        train(data, tmp_path / "run", tuning(small[0], fold=None))
    assert e.value.code == "LEAK-SUBJECTS"
    assert not (tmp_path / "run").exists()
    train(data, tmp_path / "final", tuning(small[0], folds=None, fold=None, final=True))
    options = tuning(small[0], fold=None, allow_shared_subject_ids=True)
    train(data, tmp_path / "others", options)
    assert "said to be others" in evaluate(tmp_path / "others").leakage


def test_a_grandparents_subjects_are_not_tested_either(small, tmp_path):
    parent, data = small
    train(data, tmp_path / "run", tuning(parent, folds=None, fold=None, final=True))
    theirs = write_epochs(tmp_path / "theirs", subjects=2, count=12, prefix="P", montage=MONTAGE)
    with pytest.raises(DataError, match="P00, P01") as e:
        train(theirs, tmp_path / "next", tuning(tmp_path / "run/final", fold=None))
    assert e.value.code == "LEAK-SUBJECTS"


def test_a_night_by_another_name_is_found(small, tmp_path):
    """The same signals under another subject's id, scored by another and trimmed otherwise."""
    parent, data = small
    child = tmp_path / "child"
    train(data, child, tuning(parent, folds=None, fold=None, final=True))
    renamed = write_epochs(tmp_path / "renamed", subjects=2, count=12, prefix="Q", montage=MONTAGE)
    path, source = renamed / "Q001.safetensors", read_epoch_file(data / "S001.safetensors")
    write_epoch_file(
        path,
        signals=np.array(source.signals[:6]),
        stages=source.stages[:6][::-1].copy(),
        onset=source.onset[:6],
        hypnogram=source.hypnogram,
        facts={"recording": "Q001", "subject": "Q00", "night": 1, "simulated": True},
    )
    facts = store.read_json(renamed / "manifest.json")
    kept = ("montage", "sample_rate", "epoch_seconds", "stages", "recordings", "preset")
    manifest = store.Manifest("sleeptools-epochs", 1, {key: facts[key] for key in kept})
    manifest.write(renamed, sorted(renamed.glob("*.safetensors")))
    with pytest.raises(DataError, match="nights whose signals trained the model: Q001"):
        train(renamed, tmp_path / "run", tuning(child / "final", fold=None))
    options = tuning(child / "final", fold=None, allow_shared_subject_ids=True)
    train(renamed, tmp_path / "run", options)
    assert "LEAKY" in evaluate(tmp_path / "run").leakage


def test_flat_epochs_mark_no_night(tmp_path):
    data = write_epochs(tmp_path / "epochs", subjects=1, count=3)
    file = read_epoch_file(data / "S001.safetensors")
    facts = {"recording": "S001", "subject": "S00", "night": 1}
    flat = np.zeros_like(np.array(file.signals))
    arrays = {"stages": file.stages, "onset": file.onset, "hypnogram": file.hypnogram}
    assert len(night_marks(open_epochs(data), ["S00"])["S001"]) == 1
    write_epoch_file(data / "S001.safetensors", signals=flat, **arrays, facts=facts)
    assert night_marks(open_epochs(data), ["S00"]) == {"S001": []}


# --- what fits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"montage": ["EEG Fpz-Cz", "EOG horizontal", "EEG Pz-Oz", "EMG submental"]},
            "eeg eog eeg",
        ),
        (
            {"channels": 3, "montage": MONTAGE[:3]},
            "takes EEG Fpz-Cz, EEG Pz-Oz, EOG horizontal, EMG",
        ),
        ({"names": ("W", "N1", "N2", "N3", "R")}, "was trained for W N1 N2 N3 REM"),
        ({"sample_rate": 50.0}, "has no setting for sample_rate"),
    ],
)
def test_epochs_that_do_not_fit_the_parent(small, tmp_path, facts, words):
    data = write_epochs(
        tmp_path / "epochs", **{"subjects": 2, "count": 4, "montage": MONTAGE} | facts
    )
    with pytest.raises(DataError, match=words) as e:
        train(data, tmp_path / "run", tuning(small[0]))
    assert (e.value.code, e.value.exit_code) == ("MODEL-FIT", 65)


def test_another_rate_where_no_weight_depends_on_it(tmp_path):
    """SlumberNet at another species' rate; the mouse CNN's spectra have one statistic a bin."""
    for name, fits in (("slumbernet", True), ("mouse-cnn", False)):
        config = narrow(name)
        theirs = epochs_of(config, tmp_path / name / "theirs")
        parent = parent_of(name, tmp_path / name / "parent", open_epochs(theirs))
        rate = config.sample_rate / 2
        data = epochs_of(config, tmp_path / name / "epochs", sample_rate=rate)
        with pytest.raises(DataError) as e:
            train(data, tmp_path / name / "run", tuning(parent))
        if not fits:
            assert "spectrum.norm.running_mean is float32 (514,); expected float32 (258,)" in str(
                e.value
            )
            continue
        assert f"`model.sample_rate={rate:g}` makes it fit" in e.value.hint
        options = tuning(parent)
        changed = {"model": {"sample_rate": rate}, **options.settings}
        train(data, tmp_path / name / "run", TrainOptions(**vars(options) | {"settings": changed}))
        assert (tmp_path / name / "run" / FOLD / "predictions.parquet").exists()


def test_settings_that_the_weights_do_not_fit(small, tmp_path):
    options = tuning(small[0])
    changed = {"model": {"channels": 3}, **options.settings}
    data = write_epochs(tmp_path / "epochs", subjects=2, count=4, channels=3)
    with pytest.raises(DataError):
        train(data, tmp_path / "run", TrainOptions(**vars(options) | {"settings": changed}))


def test_models_that_are_none(small, tmp_path):
    with pytest.raises(MissingInputError):
        train(small[1], tmp_path / "run", tuning(tmp_path / "nowhere"))
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot be trained further") as e:
        train(small[1], tmp_path / "run", tuning(tmp_path / "net.onnx"))
    assert e.value.code == "MODEL-PARENT"


def test_a_parent_that_changes_meanwhile(small, tmp_path):
    from sleeptools.runs.parent import read_parent
    from sleeptools.training.fine_tuning import read_parent_weights

    parent = read_parent(small[0])
    changed = type(parent)(parent.folder, parent.facts, "0" * 64)
    with pytest.raises(DataError, match="no longer those") as e:
        read_parent_weights(changed)
    assert e.value.code == "MODEL-WEIGHTS"


def test_other_processing_is_told(small, tmp_path):
    parent = shutil.copytree(small[0], tmp_path / "parent")
    facts = {k: v for k, v in model_folder.read_config(parent).items() if "sha256" not in k}
    steps = [{"do": "scale", "by": "robust"}]
    facts["preprocessing"] = {"preset": {"name": "scaled", "processing": steps}}
    model_folder.write_model_folder(parent, facts, model_folder.read_weights(parent))
    said = []
    train(small[1], tmp_path / "run", tuning(parent, fold=None), log=said.append)
    text = (
        "The signals are not processed as the parent's were: as recorded now, scale robust there."
    )
    assert f"warning: {text}" in said
    assert text in evaluate(tmp_path / "run").notes


def test_the_parents_augmentation_goes_on(small, tmp_path):
    parent = shutil.copytree(small[0], tmp_path / "parent")
    facts = {k: v for k, v in model_folder.read_config(parent).items() if "sha256" not in k}
    facts["recipe"] = {"gain_factor": 2.0, "modality_dropout": 0.25}
    model_folder.write_model_folder(parent, facts, model_folder.read_weights(parent))
    train(small[1], tmp_path / "run", tuning(parent))
    augmentation = store.read_toml(tmp_path / "run/config.toml")["recipe"]["augmentation"]
    assert (augmentation["gain_factor"], augmentation["modality_dropout"]) == (2.0, 0.25)
