"""What `--methods` may name."""

import pytest

from avil_fast.comparing.entrants import Entrant, parse
from avil_fast.errors import AvilError


def test_methods_presets_and_settings_of_one() -> None:
    found = parse("avil, paper,multitask:options.sampling=proportional,rounds=3,avil:alpha.steps=5")
    assert found == [
        Entrant("avil", ("method=avil",)),
        Entrant("paper", ("method=avil", "preset=paper")),
        Entrant(
            "multitask:options.sampling=proportional,rounds=3",
            ("method=multitask", "options.sampling=proportional", "rounds=3"),
        ),
        Entrant("avil:alpha.steps=5", ("method=avil", "alpha.steps=5")),
    ]
    assert found[2].folder == "multitask_options.sampling_proportional_rounds_3"


@pytest.mark.parametrize(
    "settings",
    [
        ("alpha.bounds=[0,1]",),
        ("optimizer.betas=[0.9, 0.99]", "rounds=3"),
        ("rounds=3", "baselines=[single,multitask]", "alpha.bounds=[0,1]"),
        ("deepspeed={a: [[1,2],[3,4]], b: {c: 5, d: [6]}}", "rounds=3"),
    ],
)
def test_a_setting_may_be_a_list_or_a_mapping(settings: tuple[str, ...]) -> None:
    name = f"avil:{','.join(settings)}"
    assert parse(f"single,{name},multitask") == [
        Entrant("single", ("method=single",)),
        Entrant(name, ("method=avil", *settings)),
        Entrant("multitask", ("method=multitask",)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("avil,multitsk", "--methods names 'multitsk', but the methods are avil, single, .*paper"),
        ("", "--methods is empty"),
        (" , ", "--methods is empty"),
        ("avil,single,avil", "--methods names 'avil' twice"),
        ("avil:a=1,single,avil:a:1", "twice"),  # one folder for both
        ("single,avil:seed=5", "--methods has 'avil:seed=5', but a comparison sets seed itself; leave it out"),
        ("avil:rounds=3,method=single", "a comparison sets method itself"),
        ("avil: output_dir=x", "a comparison sets output_dir itself"),
        ("avil:alpha.bounds=[0,1],multitsk", "--methods names 'multitsk'"),
    ],
)
def test_what_cannot_be_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(AvilError, match=said):
        parse(text)
