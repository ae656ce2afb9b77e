"""Settings: where a value comes from, and what is said about a wrong one."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from avil_fast.config import Config, TrainConfig, dump, from_dotted, from_settings, load
from avil_fast.config.explain import ALIASES
from avil_fast.config.model import EncoderConfig
from avil_fast.config.pairs import DigitsConfig
from avil_fast.config.presets import PRESETS
from avil_fast.config.settings import known_names
from avil_fast.config.text_tasks import TextTasksConfig
from avil_fast.errors import AvilError

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = [name for name in known_names(Config) if "*" not in name and not name.startswith("model.lora")]
OF_FIT = known_names(TrainConfig)
LORA = ["target=a", "tasks.a.files=x", "model.path=y", "model.lora.rank=4"]


def loaded(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, overrides)


@st.composite
def misspelled(draw: st.DrawFn, names: list[str] = NAMES) -> str:
    """A known dotted name short of one letter, so that it is no known one."""
    name = draw(st.sampled_from(names))
    at = draw(st.sampled_from([i for i, letter in enumerate(name) if letter != "."]))
    short = name[:at] + name[at + 1 :]
    return short if short not in names else short + "?"


@pytest.mark.parametrize(
    ("text", "overrides", "lr"),
    [
        ("seed: 0", [], 1e-3),
        ("preset: paper", [], 0.05),
        ("{preset: paper, optimizer: {lr: 0.5}}", [], 0.5),
        ("{preset: paper, optimizer: {lr: 0.5}}", ["optimizer.lr=0.7"], 0.7),
        ("optimizer: {lr: 0.5}", ["preset=paper"], 0.5),
        ("seed: 0", ["preset=paper", "optimizer.lr=0.7"], 0.7),
        ("seed: 0", ["optimizer.lr=0.7", "optimizer.lr=1e-2"], 0.01),
    ],
)
def test_override_beats_yaml_beats_preset_beats_default(
    tmp_path: Path, text: str, overrides: list[str], lr: float
) -> None:
    assert loaded(tmp_path, text, *overrides).optimizer.lr == lr


def test_one_setting_of_a_section_leaves_the_presets_others(tmp_path: Path) -> None:
    optimizer = loaded(tmp_path, "{preset: paper, optimizer: {lr: 0.5}}", "optimizer.momentum=0.9").optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.moments) == ("sgd", 0.5, 0.9, "reset")


def test_no_file_is_the_defaults() -> None:
    assert load(None) == Config()


@pytest.mark.parametrize("name", ["rounds", "alpha.rounds", "steps_per_task", "optimizer.clip_norm"])
@pytest.mark.parametrize("word", ["yes", "off"])
def test_what_yaml_reads_as_a_boolean_is_no_number(name: str, word: str) -> None:
    """As `on` for alpha.rounds, which would be one round."""
    with pytest.raises(AvilError, match=rf"{name}: there is (true|false), but it must be a number$"):
        load(None, [f"{name}={word}"])


def test_a_machine_is_not_told_to_start_any_number_of_processes() -> None:
    with pytest.raises(AvilError, match="workers is 100000, but input should be less than or equal to 1024"):
        load(None, ["workers=100000"])


@pytest.mark.parametrize("text", ["", " \n", "# nothing\n"])
def test_an_empty_file_is_said_to_be_empty(text: str, tmp_path: Path) -> None:
    with pytest.raises(AvilError, match=r"run\.yaml' is empty; put settings into it"):
        loaded(tmp_path, text, "rounds=3")


def test_the_run_of_a_file_has_its_name_by_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "rounds: 3").output_dir == Path("runs/run")
    assert loaded(tmp_path, "{preset: paper, output_dir: here}").output_dir == Path("here")
    assert loaded(tmp_path, "rounds: 3", "output_dir=there").output_dir == Path("there")
    assert load(None, ["rounds=3"]).output_dir == Path("runs/digits")


def test_tasks_on_texts_have_no_target_by_default(tmp_path: Path) -> None:
    text = "{model: {path: m}, tasks: {mood: {files: a}, topic: {files: b}}}"
    with pytest.raises(AvilError, match=r"run\.yaml: target is missing; name one of mood, topic$"):
        loaded(tmp_path, text)
    assert loaded(tmp_path, text, "target=mood").target == "mood"


@given(misspelled())
def test_a_misspelled_override_is_answered_with_a_known_name(name: str) -> None:
    assume(not name.startswith("options."))
    with pytest.raises(AvilError, match="unknown setting") as caught:
        load(None, [f"{name}=1"])
    assert suggestion(caught.value) in NAMES


@given(misspelled(OF_FIT))
def test_a_misspelled_keyword_of_fit_is_answered_with_a_known_name(name: str) -> None:
    assume(not name.startswith("options."))  # which are a method's own
    with pytest.raises(AvilError, match="unknown setting") as caught:
        from_dotted({name: 1})
    assert suggestion(caught.value) in OF_FIT


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "tasks.shp.limits.train=10",
            r"run\.yaml has no task 'shp', but shop; did you mean tasks\.shop\.limits\.train\?",
        ),
        ("model=some/model", r"model is 'some/model', but .*; write model: \{path: some/model\}$"),
        ("optimizer=adam", r"optimizer is 'adam', but .*; write optimizer: \{name: adam\}$"),
        ("alpha=0.1", r"alpha is 0\.1, but .*; write alpha: \{\.\.\.: \.\.\.\}$"),
        ("run.yaml", "'run.yaml' is not a setting; a file goes before all settings"),
    ],
)
def test_what_a_new_user_writes_is_answered_with_what_to_do(
    override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "{target: shop, model: {path: m}, tasks: {shop: {files: a.csv}}}"
    Path("run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(AvilError, match=said):
        load(Path("run.yaml"), [override])
    assert set(load(Path("run.yaml"), ["tasks.other.files=b.csv"]).tasks.by_name) == {"shop", "other"}


@pytest.mark.parametrize(
    ("text", "override", "where"),
    [
        ("rounds: 3", "optimizer.lr=3e-5x", "the command line: optimizer.lr is"),
        ("rounds: 3", "optimizer={lr: 0}", "the command line: optimizer.lr is"),
        ("rounds: 3", "weights.bounds=[2, 1]", "the command line: weights.bounds is"),
        ("rounds: 3", "alpha.rate=1", "the command line: unknown setting alpha.rate"),
        ("rounds: 3", "alpha={rate: 1}", "the command line: unknown setting alpha.rate"),
        ("optimizer: {lr: 0}", "optimizer.eps=1", "run.yaml: optimizer.lr is"),
        ("optimizer: {lr: 0}", "optim.eps=1", "the command line: unknown setting optim.eps"),
        ("rounds: 0", "seed=1", "run.yaml: rounds is"),
    ],
)
def test_a_value_is_blamed_on_where_it_is_from(tmp_path: Path, text: str, override: str, where: str) -> None:
    with pytest.raises(AvilError) as caught:
        loaded(tmp_path, text, override)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("alpha.learning_rate", "alpha.lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("training.learning_rate", "optimizer.lr"),
        ("per_device_train_batch_size", "batch_size"),
        ("num_train_epochs", "rounds"),
        ("epochs", "rounds"),
        ("weight_decay", "optimizer.weight_decay"),
        ("max_grad_norm", "optimizer.clip_norm"),
    ],
)
def test_the_names_that_other_trainers_have_are_known(theirs: str, ours: str) -> None:
    for refuse in (lambda: load(None, [f"{theirs}=1"]), lambda: from_dotted({theirs: 1})):
        with pytest.raises(AvilError) as caught:
            refuse()
        assert suggestion(caught.value) == ours


def test_other_trainers_names_stand_for_settings_that_there_are() -> None:
    assert set(ALIASES.values()) <= set(known_names(Config))
    assert not set(ALIASES) & {name for name in known_names(Config) if "." not in name}


@pytest.mark.parametrize("name", ["watch", "push_to_hub"])
def test_a_name_that_is_like_no_setting_has_no_suggestion(name: str) -> None:
    with pytest.raises(AvilError, match=f"unknown setting {name}; avil-fast schema lists all settings"):
        from_dotted({name: 1})


@pytest.mark.parametrize("name", ["tasks", "tasks.train", "model.width", "device", "baselines"])
def test_fit_refuses_what_it_would_not_read(name: str) -> None:
    with pytest.raises(AvilError, match=rf"fit\(\): {name} is a setting of a config file"):
        from_dotted({name: 1})


def test_the_settings_of_fit_name_no_tasks() -> None:
    assert not {"tasks", "model"} & yaml.safe_load(dump(from_dotted({}))).keys()


@given(misspelled())
def test_a_misspelled_key_of_a_file_is_answered_with_a_known_name(name: str) -> None:
    nested: object = 1
    for part in reversed(name.split(".")):
        nested = {part: nested}
    with pytest.raises(AvilError, match="unknown setting") as caught:
        from_settings(nested, where="run.yaml")  # type: ignore[arg-type]
    assert str(caught.value).startswith("run.yaml: ")
    assert suggestion(caught.value) in NAMES


def suggestion(error: AvilError) -> str:
    found = re.search(r"did you mean (\S+)\?", str(error))
    assert found, error
    return found[1]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("rounds=0", "rounds is 0"),
        ("rounds=many", "rounds is 'many'"),
        ("rounds=", "rounds is None"),
        ("batch_size=1.5", "batch_size is 1.5"),
        ("sample_ratio=0", "sample_ratio is 0"),
        ("sample_ratio=1.1", "sample_ratio is 1.1"),
        ("steps_per_task=0", "steps_per_task is 0"),
        ("steps_per_task=some", "steps_per_task is 'some'"),
        ("seed=-1", "seed is -1"),
        ("workers=-1", "workers is -1"),
        ("keep=first", "keep is 'first'"),
        ("method=magic", "method is 'magic'"),
        ("preset=mine", "preset is 'mine'"),
        ("preset=[]", r"preset is \[\]"),
        ("device=tpu", "device is 'tpu'"),
        ("output_dir=5", "output_dir is 5"),
        ("baselines=[avli]", "baselines.*.avli.*did you mean avil"),
        ("optimizer=3", "optimizer is 3"),
        ("optimizer.lr=0", "optimizer.lr is 0"),
        ("optimizer.lr=.nan", "optimizer.lr is nan"),
        ("optimizer.lr=.inf", "optimizer.lr is inf"),
        ("optimizer.betas=[0.9]", "optimizer.betas"),
        ("alpha.steps=-1", "alpha.steps is -1"),
        ("alpha.bounds=[1, 1]", r"alpha.bounds is \[1.0, 1.0\]"),
        ("alpha.bounds=2", "alpha.bounds is 2"),
        ("alpha.dev_examples=0", "alpha.dev_examples is 0"),
        ("weights.bounds=[2, 1]", r"weights.bounds is \[2.0, 1.0\]"),
        ("weights.rule=true", "weights.rule is True"),
        ("deltas.dtype=fp4", "deltas.dtype is 'fp4'"),
        ("deltas.device=cuda", "deltas.device is 'cuda'"),
        ("finetune.epochs=-1", "finetune.epochs is -1"),
        ("model.dropout=1", "model.dropout is 1"),
        ("model.name=mlp", "model is {'name': 'mlp'}.*'convnet', 'encoder', 'causal_lm'"),
        ("model.name=encoder", "model.path is missing"),
        ("tasks.a.files=x", "model.path is missing"),
        ("model.path=x", r"model\.path does not go with this model\.name"),
        ("tasks.folder=x", r"tasks\.folder does not go with this tasks\.source"),
        ("tasks=digits", "tasks is 'digits'"),
        ("tasks.source=web", "tasks"),
        ("tasks.source=idx", "tasks.folder is missing"),
        ("tasks.train=0", "tasks.train is 0"),
        ("tasks.auxiliaries=[mine]", "tasks.auxiliaries is 'mine'"),
        ("rank_timeout=0", "rank_timeout is 0"),
        ("rank_timeout=10000001", "rank_timeout is 10000001"),
        ("rounds", "key=value"),
        ("rounds=[1", "not valid YAML"),
        ("rounds.more=1", "unknown setting rounds.more"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_setting(override: str, named: str) -> None:
    with pytest.raises(AvilError, match=named) as caught:
        load(None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        ("alpha: 3", "alpha.lr=1", r"alpha\.lr cannot be set, because alpha is 3"),
        # A section's name may be the end of another's.
        (
            "tasks: {s: 3, t: {files: x}}",
            "tasks.s.files=x",
            r"tasks\.s\.files cannot be set, because tasks\.s is 3",
        ),
    ],
)
def test_a_setting_within_what_is_no_section_is_refused(
    tmp_path: Path, text: str, override: str, said: str
) -> None:
    with pytest.raises(AvilError, match=said):
        loaded(tmp_path, text, override)


@pytest.mark.parametrize("apply", ["lr", "sampling"])
@pytest.mark.parametrize("bounds", ["null", "[-1, 2]"])
def test_weights_that_could_turn_negative_need_a_floor(apply: str, bounds: str) -> None:
    with pytest.raises(AvilError, match=r"weights\.bounds"):
        load(None, ["weights.rule=additive", f"weights.apply={apply}", f"weights.bounds={bounds}"])


@pytest.mark.parametrize("text", ["[1, 2]", "three", "a: [", "rounds: 1\n\tseed: 2"])
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(AvilError, match=r"run\.yaml") as caught:
        loaded(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "<unicode string>" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("target: é".encode("latin-1"))
    for name, problem in (("latin.yaml", "UTF-8"), ("missing.yaml", "No such file"), (".", "directory")):
        with pytest.raises(AvilError, match=problem):
            load(tmp_path / name)


def test_sections_may_be_made_in_python() -> None:
    tasks, model = TextTasksConfig.model_validate({"news": {"files": "x"}}), EncoderConfig(path="y")
    assert Config(tasks=tasks, model=model) == Config(tasks=tasks, model={"path": "y"})
    assert Config(tasks=DigitsConfig()) == Config()


@pytest.mark.parametrize("word", ["off", "'off'", "Off", "false"])
def test_a_bare_off_is_the_rule_off(tmp_path: Path, word: str) -> None:
    assert loaded(tmp_path, f"weights: {{rule: {word}}}").weights.rule == "off"
    assert load(None, [f"weights.rule={word}"]).weights.rule == "off"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["preset=paper"],
        ["weights.rule=off", "output_dir=null", "alpha.bounds=null", "steps_per_task=7", "baselines=[]"],
        ["tasks={source: idx, folder: some where, auxiliaries: []}", "optimizer.lr=1e-7", "target='größe: 1'"],
        ["tasks={news: {files: x, labels: [a, b]}}", "model={path: y, lora: true}", "target=news"],
        ["tasks.a.files={train: [x.csv, y.csv]}", "tasks.a.hold_out={dev: 3, by: id}", "model.path=y", "target=a"],
        [
            "tasks.a={kind: language_modelling, dataset: d, splits: {dev: v}}",
            "model={path: y, init: random}",
            "target=a",
        ],
        ["tasks.auxiliaries=[random_labels]", "seed=9223372036854775807", "alpha.dev_examples=3"],
    ],
)
def test_dumped_settings_load_as_the_same(tmp_path: Path, overrides: list[str]) -> None:
    config = load(None, overrides)
    assert loaded(tmp_path, dump(config)) == config


def test_dotted_names_and_sections_mix() -> None:
    config = from_dotted({"alpha": {"lr": 0.5}, "alpha.steps": 3, "rounds": 2})
    assert (config.alpha.lr, config.alpha.steps, config.rounds) == (0.5, 3, 2)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["alpha.init=1/n", "weights.rule=additive"], ["alpha.init: 1/n"]),
        (["weights.apply=loss", "weights.rule=additive", "optimizer.name=adam"], ["weights.apply: loss"]),
        (
            ["weights.apply=loss", "weights.rule=additive", "alpha.init=1/n"],
            ["alpha.init: 1/n", "weights.apply: loss"],
        ),
        ([], []),
        (["preset=paper"], []),
        (["weights.apply=loss", "optimizer.name=sgd"], []),
        (["weights.apply=loss", "weights.rule=off"], []),
        (["alpha.init=one", "weights.rule=additive"], []),
        (["method=single", "weights.rule=additive", "weights.apply=loss"], []),
        (["task_vectors=true"], ["task_vectors: true keeps those"]),
        (["task_vectors=true", "alpha.settled=merge"], []),
        (["task_vectors=true", "alpha.rounds=null"], []),
        (["task_vectors=true", "rounds=5"], []),
        (["task_vectors=true", "rounds=5", "alpha.rounds=1"], ["task_vectors: true keeps those"]),
        ([*LORA, "alpha.bounds=[-1, 1]"], ["alpha.bounds allow α below 0"]),
        ([*LORA, "alpha.bounds=null"], ["alpha.bounds allow α below 0"]),
        ([*LORA, "alpha.bounds=null", "model.lora.space=B"], []),
        (LORA, []),
    ],
)
def test_the_combinations_known_to_fail_are_warned_of(overrides: list[str], named: list[str]) -> None:
    found = load(None, overrides).warnings()
    assert [name in warning for name, warning in zip(named, found, strict=True)] == [True] * len(named)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_known_settings_and_need_no_warning(preset: str) -> None:
    assert from_settings({"preset": preset}).warnings() == []


def test_schema_is_json_and_says_what_key_fields_mean() -> None:
    schema = json.loads(json.dumps(Config.model_json_schema()))
    parts = {"": schema} | schema["$defs"]
    for where, names in {
        "": ["target", "sample_ratio", "steps_per_task", "keep", "output_dir", "overwrite", "baselines"],
        "OptimizerConfig": ["clip_norm", "moments"],
        "AlphaConfig": ["steps", "init", "bounds", "dev_examples", "target_head"],
        "WeightsConfig": ["rule", "lr", "apply", "normalize", "target_min"],
        "DeltasConfig": ["dtype"],
        "FinetuneConfig": ["epochs"],
        "IdxConfig": ["train", "auxiliary_train", "folder"],
        "TextTaskConfig": ["files", "dataset", "labels", "prompt", "metric", "overlap", "packing"],
        "LoraConfig": ["rank", "targets", "space"],
        "EncoderConfig": ["path", "max_length", "gradient_checkpointing"],
    }.items():
        for name in names:
            assert parts[where]["properties"][name]["description"], f"{where}.{name}"


def test_every_setting_has_a_text_that_can_be_read_alone() -> None:
    schema = Config.model_json_schema()
    for where, part in {"Config": schema, **schema["$defs"]}.items():
        assert part["description"], where
        for name, setting in part.get("properties", {}).items():
            if (
                "$ref" in setting
                or "oneOf" in setting
                or ("default" in setting and isinstance(setting["default"], dict))
            ):
                continue  # a section, which has a text of its own
            text = setting.get("description", "")
            assert text, f"{where}.{name} has no text"
            assert not text.startswith(("Of ", "In ", "On ", "Between ", "null:", "auto:")), (
                f"{where}.{name}: {text}"
            )


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("**/*.yaml")), ids=lambda path: path.name)
def test_every_config_that_comes_with_the_package_loads_without_a_warning(path: Path) -> None:
    assert load(path).warnings() == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.a.fils=x", r"unknown setting tasks.a.fils; did you mean tasks.\*.files"),
        ("tasks.a={fils: x}", r"unknown setting tasks.a.fils; did you mean tasks.\*.files"),
        ("tasks.a.files={trian: x}", "tasks.a.files.train is missing"),
        ("tasks.a.kind=nope", "tasks.a.kind is 'nope', but input should be 'classification'"),
        ("tasks.a.files=5", "tasks.a.files is 5"),
        ("tasks.a={}", "tasks.a: a task needs either files or dataset"),
        ("tasks.a={files: x, subset: s}", "tasks.a: subset and splits belong to a dataset"),
        ("tasks.a={files: x, labels: [b, b]}", "labels names 'b' twice"),
        ("tasks.a={files: x, labels: [b]}", r"labels is \['b'\], but must name all classes, two or more"),
        ("tasks.a={files: x, packing: true}", "packing needs kind: language_modelling"),
        ("tasks.a={files: x, metric: mse}", "metric is mse, but classification has accuracy, f1"),
        ("tasks.a={files: x, kind: language_modelling, prompt: p}", "prompt is set, but neither completion"),
        (
            "tasks.a={files: x, kind: language_modelling, packing: true, demonstrations: 1}",
            "packing and demonstrations do not go together",
        ),
        ("tasks={a: {files: x}, b: {files: x, kind: language_modelling}}", "need different models"),
    ],
)
def test_a_wrong_setting_of_a_task_names_the_task(override: str, message: str) -> None:
    with pytest.raises(AvilError, match=message) as caught:
        load(None, ["model.path=y", override])
    assert "\n" not in str(caught.value)


def test_a_task_that_overrides_do_not_bring_is_missed_in_the_settings() -> None:
    with pytest.raises(AvilError, match=r"tasks\.bb\.limits\.train: the settings have no task 'bb', but a"):
        load(None, ["tasks.a.files=x", "tasks.bb.limits.train=3"])


def test_task_vectors_need_one_alpha_for_each_task() -> None:
    with pytest.raises(AvilError, match=r"task_vectors is true, but with alpha\.granularity: layer every"):
        load(None, ["task_vectors=true", "alpha.granularity=layer"])
    assert load(None, ["task_vectors=true", "alpha.granularity=layer", "method=multitask"]).task_vectors


@pytest.mark.parametrize("overrides", [["tasks=digits", "rounds=2"], ["tasks=[a, b]", "tasks.a.kind=pairs"]])
def test_tasks_that_are_no_section_are_one_sentence(overrides: list[str]) -> None:
    with pytest.raises(AvilError, match="tasks"):
        load(None, overrides)
