"""Renamed targets and keys: configs, weights and command lines with old names keep working.

This is the only table of them. Names are translated when a config is read from a file or the command line; all other code uses
current names.
"""

import re
from collections.abc import Sequence
from typing import Any

MODULES = {  # old modules of targets -> current ones
    "ldm.diffusion.schedule": "ldm.diffusion.process.discrete",
    "ldm.diffusion.windows": "ldm.diffusion.tiling",
    "ldm.generation": "ldm.sampling.generate",
    "ldm.latent_diffusion": "ldm.model",
    "ldm.loading": "ldm.checkpoint.load",
    "ldm.posthoc": "ldm.training.posthoc",
    "ldm.starting": "ldm.checkpoint.start",
    "ldm.steering": "ldm.sampling.options",
    "ldm.training.autoencoder": "ldm.training.stage1",
    "ldm.training.checkpoints": "ldm.training.callbacks.checkpoints",
    "ldm.training.diffusion": "ldm.training.stage2",
    "ldm.training.endings": "ldm.training.callbacks.failures",
    "ldm.training.inside": "ldm.training.confine",
    "ldm.training.loggers": "ldm.training.callbacks.loggers",
    "ldm.training.lr": "ldm.training.optim.lr",
    "ldm.training.memory": "ldm.training.callbacks.memory",
    "ldm.training.monitor": "ldm.training.callbacks.validation",
    "ldm.training.muon": "ldm.training.optim.muon",
    "ldm.training.optimizers": "ldm.training.optim.factories",
    "ldm.training.records": "ldm.training.callbacks.metrics",
    "ldm.training.timelimit": "ldm.training.callbacks.stopping",
}
TARGETS = {  # old targets -> current ones: CompVis has other classes in modules of these names
    "ldm.data.coco.Coco": "ldm.data.sources.coco.Coco",
    "ldm.data.database.LSUNDatabase": "ldm.data.sources.lmdb.LSUNDatabase",
    "ldm.data.digits.Digits": "ldm.data.sources.digits.Digits",
    "ldm.data.folder.ImageFolder": "ldm.data.sources.folder.ImageFolder",
    "ldm.data.folders.AnnotatedFolder": "ldm.data.sources.annotated_folder.AnnotatedFolder",
    "ldm.data.folders.ArrayFolder": "ldm.data.sources.annotated_folder.ArrayFolder",
    "ldm.data.folders.PairedFolders": "ldm.data.sources.annotated_folder.PairedFolders",
    "ldm.data.folders.RecordList": "ldm.data.sources.annotated_folder.RecordList",
    "ldm.data.geometry.UnreadableImage": "ldm.data.transforms.UnreadableImage",
    "ldm.data.geometry.View": "ldm.data.transforms.View",
    "ldm.data.imagenet.ImageNet": "ldm.data.sources.imagenet.ImageNet",
    "ldm.data.listed.CelebAHQ": "ldm.data.sources.downloads.CelebAHQ",
    "ldm.data.listed.FFHQ": "ldm.data.sources.downloads.FFHQ",
    "ldm.data.listed.LSUN": "ldm.data.sources.downloads.LSUN",
    "ldm.data.listed.ListedImages": "ldm.data.sources.downloads.ListedImages",
    "ldm.data.listed.Places": "ldm.data.sources.downloads.Places",
    "ldm.data.mixed.Mixed": "ldm.data.sources.mixed.Mixed",
    "ldm.data.openimages.OpenImages": "ldm.data.sources.openimages.OpenImages",
    "ldm.data.photographs.Photographs": "ldm.data.sources.photographs.Photographs",
    "ldm.data.scenes.Scenes": "ldm.data.sources.scenes.Scenes",
    "ldm.data.scenes.Thing": "ldm.data.sources.scenes.Thing",
    "ldm.data.tasks.Inpainting": "ldm.data.sources.tasks.Inpainting",
    "ldm.data.tasks.SuperResolution": "ldm.data.sources.tasks.SuperResolution",
    "ldm.data.tasks.WithTask": "ldm.data.sources.tasks.WithTask",
    "ldm.data.unavailable.Unavailable": "ldm.data.sources.unavailable.Unavailable",
    "ldm.data.webshards.WebShards": "ldm.data.sources.shards.WebShards",
}
ARGUMENTS: dict[str, dict[str, str]] = {  # current target -> its old arguments -> current ones
    "ldm.model.LatentDiffusion": {"schedule": "process"},
    "ldm.training.DiffusionTraining": {"posthoc_lengths": "posthoc_sigma_rels"},
    **{
        f"ldm.conditioning.{name}": {"drop_rate": "uncond_prob"}
        for name in (
            "ClassEmbedding",
            "ClassVector",
            "ConcatImage",
            "GivenContext",
            "LabelMap",
            "LabelVector",
            "LayoutTransformer",
            "PretrainedText",
            "TextTransformer",
        )
    },
    "ldm.training.ClassifierTraining": {"schedule": "process"},
    **dict.fromkeys(("ldm.networks.UNet", "ldm.networks.NoisyClassifier"), {"heads_first": "qkv_by_head"}),
}
REFERENCE = re.compile(r"(?<=\$\{)[\w.]+(?=\})")


def renamed(node: Any, below: Any = None) -> Any:
    """A copy of a node of a config with current names.

    Args:
        node: any value.
        below: the node that it will be merged over, whose target is used if the node has none.
    """
    if isinstance(node, list):
        return [renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    below = below if isinstance(below, dict) else {}
    target = node.get("target", below.get("target"))
    target = moved(target) if isinstance(target, str) else None
    made = {**node, "target": target} if target and "target" in node else dict(node)
    if target in ARGUMENTS and isinstance(made.get("params"), dict):
        made["params"] = _with_arguments(made["params"], ARGUMENTS[target])
    return {key: renamed(value, below.get(key)) for key, value in made.items()}


def moved(target: str, modules: dict[str, str] = MODULES, targets: dict[str, str] = TARGETS) -> str:
    """The current name of a target."""
    module, dot, name = target.rpartition(".")
    return targets.get(target, modules.get(module, module) + dot + name)


def _with_arguments(params: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Rename arguments; if both names exist, the entries of the new one override those of the old one."""
    made: dict[str, Any] = {}
    for key in sorted(params, key=lambda key: key not in names):
        name = names.get(key, key)
        made[name] = _over(params[key], made.get(name))
    return {names.get(key, key): made[names.get(key, key)] for key in params}


def _over(new: Any, old: Any) -> Any:
    if isinstance(new, dict) and isinstance(old, dict):
        return {**old, **{key: _over(value, old.get(key)) for key, value in new.items()}}
    return new


def original(node: Any) -> Any:
    """A copy of a node with the original names, for recorded hashes of configs."""
    if isinstance(node, list):
        return [original(item) for item in node]
    if not isinstance(node, dict):
        return node
    target = str(node.get("target"))
    arguments = {today: old for old, today in ARGUMENTS.get(target, {}).items()}
    made = {**node, "target": moved(target, _turned(MODULES), _turned(TARGETS))} if "target" in node else dict(node)
    if arguments and isinstance(made.get("params"), dict):
        made["params"] = {arguments.get(key, key): value for key, value in made["params"].items()}
    return {key: original(value) for key, value in made.items()}


def _turned(names: dict[str, str]) -> dict[str, str]:
    return {today: old for old, today in names.items()}


def renamed_path(keys: Sequence[str], config: Any) -> list[str]:
    """A path with current names, in a config that has them."""
    found: list[str] = []
    target, node = None, config
    for key in keys:
        if found[-1:] == ["params"] and isinstance(target, str):
            key = ARGUMENTS.get(target, {}).get(key, key)
        target = node.get("target") if isinstance(node, dict) else None
        found.append(key)
        node = node.get(key) if isinstance(node, dict) else node[int(key)] if _has(node, key) else None
    return found


def _has(node: Any, key: str) -> bool:
    return isinstance(node, list) and key.isdigit() and int(key) < len(node)


def renamed_references(node: Any, config: Any, place: tuple[str, ...] = ()) -> Any:
    """A copy of a node of a config whose `${...}` use current names; `place` is the node's own path."""
    if isinstance(node, dict):
        return {key: renamed_references(value, config, (*place, str(key))) for key, value in node.items()}
    if isinstance(node, list):
        return [renamed_references(value, config, (*place, str(i))) for i, value in enumerate(node)]
    if not isinstance(node, str) or "${" not in node:
        return node

    def today(match: re.Match[str]) -> str:
        name = match[0].lstrip(".")
        dots = len(match[0]) - len(name)  # one dot is the mapping that contains the text, two dots the one above
        start = place[: max(len(place) - dots, 0)] if dots else ()
        return "." * dots + ".".join(renamed_path([*start, *name.split(".")], config)[len(start) :])

    return REFERENCE.sub(today, node)
