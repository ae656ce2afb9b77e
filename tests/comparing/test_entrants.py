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
    ("text", "said"),
    [
        ("avil,multitsk", "--methods names 'multitsk', but the methods are avil, single, .*paper"),
        ("", "--methods is empty"),
        (" , ", "--methods is empty"),
        ("avil,single,avil", "--methods names 'avil' twice"),
        ("avil:a=1,single,avil:a:1", "twice"),  # one folder for both
    ],
)
def test_what_cannot_be_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(AvilError, match=said):
        parse(text)
