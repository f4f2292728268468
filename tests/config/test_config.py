from pathlib import Path

import pytest

from ldm.config import AllowedTargets, allow_environment, build, load, validate
from ldm.errors import UserError

NETWORK = """
model:
  target: ldm.training.DiffusionTraining
  params:
    model:
      target: ldm.model.LatentDiffusion
      params:
        first_stage: {target: ldm.first_stage.IdentityFirstStage, params: {channels: 1}}
        process: {target: ldm.diffusion.cosine}
        network:
          target: ldm.networks.UNet
          params: {in_channels: 1, out_channels: 1, width: 32, width_mult: [1], blocks_per_level: 1, heads: 1}
    optimizer: {target: torch.optim.AdamW, partial: true, params: {lr: 1e-3}}
data: {params: {batch_size: 4, train: {target: ldm.data.Digits, params: {size: 8}}}}
trainer: {params: {steps: 2}}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    file = tmp_path / "base.yaml"
    file.write_text(NETWORK)
    return file


def problems(base: Path, *overrides: str) -> list[str]:
    return [str(p) for p in validate(load([base], overrides), AllowedTargets())]


def test_a_right_config_has_no_problems_and_builds(base: Path) -> None:
    config = load([base])
    assert validate(config, AllowedTargets()) == []
    module = build(config.data["model"], AllowedTargets(), "model")
    assert module.optimizer.keywords == {"lr": 1e-3}  # partial: a factory


def test_files_merge_left_to_right_then_overrides(base: Path, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("trainer: {params: {steps: 5, keep: 3}}\npaths: {a: x}\nname: ${paths.a}-run\n")
    config = load([base, tmp_path / "more.yaml"], ["trainer.params.steps=7", "paths.a=y"])
    assert config.data["trainer"]["params"] == {"steps": 7, "keep": 3}
    assert config.data["name"] == "y-run"
    assert config.origin("trainer.params.steps") == "command line" and config.origin("trainer.params.keep").endswith("more.yaml")


def test_bases_are_relative_to_their_file_and_come_first(base: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "child.yaml").write_text("base: [../base.yaml]\ntrainer: {params: {steps: 9}}\n")
    assert load([tmp_path / "sub" / "child.yaml"]).data["trainer"]["params"]["steps"] == 9
    (tmp_path / "loop.yaml").write_text("base: [loop.yaml]\n")
    with pytest.raises(UserError, match="includes itself"):
        load([tmp_path / "loop.yaml"])
    (tmp_path / "lost.yaml").write_text("base: [nowhere.yaml]\n")
    with pytest.raises(UserError, match=r"lost\.yaml: base: no such file.*nowhere"):
        load([tmp_path / "lost.yaml"])


def test_from_takes_one_node_of_another_file(base: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text('paths: {from: "base.yaml:model.params.model.params.network.params", width: 64}\n')
    assert load([tmp_path / "x.yaml"]).data["paths"]["width"] == 64
    assert load([tmp_path / "x.yaml"]).data["paths"]["heads"] == 1
    (tmp_path / "y.yaml").write_text('paths: {from: "base.yaml:model.parms"}\n')
    with pytest.raises(UserError, match="has no 'model.parms'.*'parms'"):
        load([tmp_path / "y.yaml"])


def test_a_new_target_drops_the_old_params(base: Path) -> None:
    config = load([base], ["model.params.model.params.process.target=ldm.diffusion.linear"])
    config = load([base], ["model.params.model.params.first_stage.target=ldm.first_stage.KLAutoencoder"])
    assert "params" not in config.data["model"]["params"]["model"]["params"]["first_stage"]


@pytest.mark.parametrize(
    "override,expected",
    [
        ("model.params.model.params.network.params.widht=3", r"widht: ldm\.networks\.UNet takes no 'widht'; did you mean 'width'\?"),
        ("model.params.model.params.network.params.width=wide", r"width: expected an integer, got 'wide'"),
        ("model.params.model.params.network.params.width=1.5", "expected an integer, got 1.5"),
        ("model.params.model.params.network.params.width=true", "expected an integer, got True"),
        ("model.params.model.params.network.params.width_mult=2", "expected a list, got 2"),
        ("model.params.model.params.network.params.width_mult=[1,a]", "expected a list of an integer"),
        ("model.params.model.params.network.params.resample=sideways", "expected one of 'conv', 'pool', 'residual'"),
        ("model.params.model.params.network.target=ldm.networks.Unet", r"has no 'Unet'; did you mean 'UNet'\?"),
        ("model.params.model.params.network.target=os.system", r"not in an allowed package.*--trust os"),
        ("model.params.model.params.network.target=torch.load", "not in an allowed package"),
        ("model.params.model.params.network.target=torch.nn.modules.module.torch.load", "not in an allowed package"),
        ("model.params.model.params.network.target=ldm.system.files.os.system", "not public"),
        ("model.params.model.params.network.target=ldm.system.files.write_text.__globals__", "is private"),
        ("model.params.model.params.network.target=ldm.config.build.build", "not public"),
        ("model.params.model.params.network.target=ldm.first_stage.LPIPS.file", "not public"),
        ("model.params.model.params.network.target=torch.optim.lr_scheduler.types.FunctionType", "configs name Optimizer and LRScheduler"),
        ("model.params.model.params.network={target: torch.nn.Identity}", "expected a node that builds Network, got torch.nn.Identity"),
        ("model.params.model.params.network=5", "expected a node that builds Network, got 5"),
        ("model.params.optimizer.partial=false", "expected a node with target and partial: true"),
        ("model.params.model.params.scale=big", "expected a number or a list or one of 'std', 'channels', 'first_stage', got 'big'"),
        ("modle.params.a=1", r"unknown top-level key; did you mean 'model'\?"),
        ("model.parms={}", r"unknown key beside target; did you mean 'params'\?"),
        ("trainer.params.step=3", r"takes no 'step'; did you mean 'steps'\?"),
        ("data.params.train.params.split=test", "expected one of 'train', 'validation'"),
        ("seed=soon", "expected an integer"),
        ("seed=-1", "expected 0 to"),
        ("data.params.train=5", "expected a node that builds Dataset, got 5"),
        ("data.params.train=null", "expected a node that builds Dataset"),
    ],
)
def test_each_problem_is_named_with_path_and_expectation(base: Path, override: str, expected: str) -> None:
    import re

    found = problems(base, override)
    assert any(re.search(expected, text) for text in found), found


def test_all_problems_come_in_one_list_with_their_files(base: Path) -> None:
    found = problems(base, "trainer.params.stps=3", "model.params.model.params.network.params.width=x", "data.params.batch_size=many")
    assert len(found) == 3 and all(text.startswith("command line: ") for text in found)
    base.write_text(NETWORK.replace("steps: 2", "stepz: 2"))
    assert {text.split(": ")[0] for text in problems(base)} == {str(base)}


def test_a_node_may_give_a_mapping(base: Path) -> None:
    start = "model.params.start={target: %s, params: {checkpoint: run}}"
    assert problems(base, start % "ldm.checkpoint.load.starting_weights") == []
    assert ["a mapping or null" in p for p in problems(base, start % "ldm.checkpoint.load.pretrained")] == [True]


def test_required_arguments_are_asked_for(base: Path) -> None:
    base.write_text(NETWORK.replace("width: 32, ", ""))
    assert any("UNet needs 'width'" in text for text in problems(base))


def test_what_a_constructor_refuses_carries_its_path(base: Path) -> None:
    config = load([base], ["model.params.model.params.network.params.head_channels=8"])
    assert validate(config, AllowedTargets()) == []
    with pytest.raises(UserError, match=r"model\.params\.model\.params\.network: ldm\.networks\.UNet: .*exactly one of heads"):
        build(config.data["model"], AllowedTargets(), "model")


@pytest.mark.parametrize(
    "text,message",
    [("a: [1", "line"), ("- 1\n- 2", "expected a mapping"), ("a: 1\na: 2", "duplicate"), ("a: ${nowhere.b}", "nowhere"), ("a: ???", "a")],
)
def test_broken_yaml_is_named_with_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load([tmp_path / "broken.yaml"])
    assert "broken.yaml" in str(caught.value)


@pytest.mark.parametrize("word", ["novalue", "=3", "a..b=3", "trainer.params.steps.x=3"])
def test_broken_overrides_are_named(base: Path, word: str) -> None:
    with pytest.raises(UserError, match="override"):
        load([base], [word])


def test_trust_admits_one_more_package(base: Path) -> None:
    with pytest.raises(ValueError, match="--trust fractions"):
        AllowedTargets().resolve("fractions.Fraction")
    assert AllowedTargets(("fractions",)).resolve("fractions.Fraction")(1, 2) == 0.5


@pytest.mark.parametrize("target", ["fractions.operator.add", "fractions.sys.exit", "fractions.Decimal"])
def test_trust_does_not_reach_what_a_package_imports(target: str) -> None:
    """A file of somebody else may name it: `package.os.system`."""
    with pytest.raises(ValueError, match="is not defined in a trusted package, but in"):
        AllowedTargets(("fractions",)).resolve(target)


def test_a_config_cannot_reach_the_machinery_that_reads_configs(base: Path, tmp_path: Path) -> None:
    """What lives in this project could otherwise be put together to run anything."""
    evil = (
        "{target: ldm.config.build, params: {node: {target: ldm.config.parse, params: {source: x, text: '{target: os.system}'}}, "
        "trust: {target: ldm.config.Trust, params: {packages: [os, posix]}}}}"
    )
    assert any("not public" in text for text in problems(base, f"data.params.train={evil}"))
    with pytest.raises(UserError, match="not public"):
        build({"target": "ldm.config.load"}, AllowedTargets())


def test_files_that_take_nodes_from_one_another_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('paths: {from: "b.yaml:paths"}\n')
    (tmp_path / "b.yaml").write_text('paths: {from: "a.yaml:paths"}\n')
    with pytest.raises(UserError, match="includes itself"):
        load([tmp_path / "a.yaml"])


def test_keys_that_are_no_words_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("paths: {1: x}\n")
    with pytest.raises(UserError, match="keys must be words, got 1"):
        load([tmp_path / "a.yaml"])


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:SECRET}",
        "${oc.env:SECRET,x}",
        "${ oc.env : SECRET }",
        "a-${oc.select:${oc.env:SECRET}}",
        "${${paths.a}:SECRET}",
        "${oc.${paths.b}:SECRET}",
        '${oc.decode:"${oc.env:SECRET}"}',
        "${oc.decode:'1'}",
        "${oc.create:{a: 1}}",
        "${anything:x}",
        r"\\${oc.env:SECRET}",
    ],
)
def test_a_config_reads_no_environment_and_runs_no_resolvers(base: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    start = {"name": text, "paths": {"a": "oc.env", "b": "env"}}
    with pytest.raises(UserError) as caught:
        load([base], start=start)  # as in a checkpoint's config
    assert "name: " in str(caught.value) and "hunter2" not in str(caught.value)
    with pytest.raises(UserError, match="override|only references|--allow-env|not a reference"):
        load([base], [f"name={text}"])
    base.write_text(NETWORK + f"name: '{text.replace(chr(39), chr(39) * 2)}'\npaths: {{a: oc.env, b: env}}\n")
    with pytest.raises(UserError):
        load([base])


def test_an_environment_variable_that_was_allowed_is_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "here")
    base.write_text(NETWORK + "name: run-${oc.env:PLACE}\n")
    with pytest.raises(UserError, match=r"base.yaml: name: \$\{oc.env:PLACE\}.*--allow-env PLACE"):
        load([base])
    allow_environment(["PLACE"])
    try:
        assert load([base]).data["name"] == "run-here"
        with pytest.raises(UserError, match="--allow-env HOME"):
            load([base], ["paths.a=${oc.env:HOME}", "name=${paths.a}"])
    finally:
        allow_environment([])


def test_references_stay_references(base: Path) -> None:
    base.write_text(NETWORK + 'paths: {a: x, b: "${oc.select:paths.nowhere,${paths.a}}/${.a}"}\nname: ${paths.b}\n')
    assert load([base]).data["name"] == "x/x"


def test_a_vocabulary_is_not_too_long_for_a_config(base: Path) -> None:
    words = [f"w{i}" for i in range(12000)]
    base.write_text(NETWORK + f"evaluation: {{published: {{words: [{', '.join(words)}]}}}}\nname: ${{evaluation.published.words}}\n")
    assert load([base]).data["evaluation"]["published"]["words"] == words == load([base]).data["name"]


def test_aliases_cannot_fill_the_memory(base: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    base.write_text("\n".join(lines))
    with pytest.raises(UserError, match="base.yaml.*more than"):
        load([base])
    base.write_text("paths: &a\n  b: *a\n")
    with pytest.raises(UserError, match="base.yaml"):
        load([base])
