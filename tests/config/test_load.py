from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glint.config import GlintConfig, dump_config, load_config, packaged_recipes
from glint.errors import ConfigError


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", packaged_recipes())
def test_load_config__packaged_recipe_by_bare_name(name: str):
    assert name in load_config(name).train.out


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipe__begins_with_command_and_cost(name: str):
    import glint.config.load as module

    head = (module.RECIPES / f"{name}.yaml").read_text().split("\nname:")[0]
    assert f"glint train {name}" in head or f"glint pretrain {name}" in head
    assert "cost:" in head
    assert "expected:" in head


def test_load_config__defaults_then_file_then_overrides(tmp_path: Path):
    path = recipe(tmp_path, "optim:\n  lr: 0.5\n  vision_lr: 0.25\n")
    cfg = load_config(path, ["optim.lr=3e-4", "train.out=", "loss.dfr=0"])
    assert (cfg.optim.lr, cfg.optim.vision_lr, cfg.optim.text_lr) == (3e-4, 0.25, 5e-5)
    assert (cfg.train.out, cfg.loss.dfr) == ("", 0.0)


def test_load_config__unknown_key_gives_line_and_nearest_name(tmp_path: Path):
    path = recipe(tmp_path, "name: x\n\noptim:\n  lrr: 1.0\n")
    with pytest.raises(
        ConfigError, match=r"recipe\.yaml:4: unknown key 'optim\.lrr' - did you mean 'optim\.lr'\?"
    ):
        load_config(path)


def test_load_config__reports_all_problems_at_once(tmp_path: Path):
    path = recipe(tmp_path, "steps: 3\ntrain:\n  batch_size: 1\n  seed: no\noptim: {lr: -1}\nlosss: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["align.type=foo", "align.typ=gated", "nonsense", "data.size_px=100"])
    text = str(caught.value)
    for part in [
        "recipe.yaml:1: unknown key 'steps' - did you mean 'train.steps'?",
        "recipe.yaml:3: 'train.batch_size'",
        "recipe.yaml:5: 'optim.lr'",
        "recipe.yaml:6: unknown key 'losss' - did you mean 'loss'?",
        "override 'align.type=foo': 'align.type': Input should be 'gated', 'vlcabs' or 'global', got 'foo'",
        "override 'align.typ=gated': unknown key 'align.typ' - did you mean 'align.type'?",
        "override 'nonsense': expected key.sub=value",
    ]:
        assert part in text
    assert caught.value.exit_status == 2


def test_load_config__denials_have_one_reader():
    with pytest.raises(ConfigError, match=r"set loss\.polarity=0"):
        load_config(None, ["text.negation=rules"])
    assert load_config(None, ["text.negation=rules", "loss.polarity=0"]).text.negation == "rules"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  steps: 1\n  steps: 2\n", r"recipe\.yaml:3: 'train\.steps' is set a second time"),
        ("train: [1\n", r"recipe\.yaml:2"),
        ("- a\n- b\n", "mapping of sections"),
        ("train: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    ],
)
def test_load_config__broken_yaml(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(recipe(tmp_path, text))


def test_load_config__empty_file_and_empty_section_are_defaults(tmp_path: Path):
    assert load_config(recipe(tmp_path, "")) == GlintConfig()
    assert load_config(recipe(tmp_path, "train:\n")) == GlintConfig()


def test_load_config__unknown_recipe_lists_the_packaged_ones(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'smoke'"):
        load_config("smok")
    with pytest.raises(ConfigError, match="folder"):
        load_config(tmp_path)


def test_load_config__override_through_a_value():
    with pytest.raises(ConfigError, match="'name' is not a section"):
        load_config(None, ["name=x", "name.sub=1"])


@given(
    lr=st.floats(1e-8, 10, allow_subnormal=False),
    steps=st.integers(1, 10**9),
    name=st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20),
)
def test_dump_config__reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, lr: float, steps: int, name: str
):
    default = GlintConfig()
    cfg = default.model_copy(
        update={
            "name": name,
            "optim": default.optim.model_copy(update={"lr": lr}),
            "train": default.train.model_copy(update={"steps": steps}),
        }
    )
    path = tmp_path_factory.mktemp("dump") / "cfg.yaml"
    path.write_text(dump_config(cfg), encoding="utf-8")
    assert load_config(path) == cfg
