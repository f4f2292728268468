"""Content of the 32 official CompVis configs, put together from what they have in common: facts, for tests to translate."""

from typing import Any

Tree = dict[str, Any]
IDENTITY = {"target": "torch.nn.Identity"}


def autoencoder(
    kind: str, z: int, mult: list[int], attention: list[int], codes: int | None = None, loss: Tree | None = None, **more: Any
) -> Tree:
    dd: Tree = {"double_z": codes is None, "z_channels": z, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    dd |= {"ch_mult": mult, "num_res_blocks": 2, "attn_resolutions": attention, "dropout": 0.0}
    dd |= {"attn_type": "none"} if more.pop("noattn", False) else {}
    params: Tree = {"embed_dim": z, "ddconfig": dd, "lossconfig": loss or IDENTITY, **more}
    return {"target": f"ldm.models.autoencoder.{kind}", "params": params | ({"n_embed": codes} if codes else {})}


def images(name: str, batch_size: int, params: Tree | None = None, **more: Any) -> Tree:
    params = params or {"size": 256}
    sets = {part: {"target": f"{name}{ending}", "params": params} for part, ending in (("train", "Train"), ("validation", "Validation"))}
    return {"target": "main.DataModuleFromConfig", "params": {"batch_size": batch_size, **more, **sets}}


OPENIMAGES = {"size": 384, "crop_size": 256}
LOGGER = {"image_logger": {"target": "main.ImageLogger", "params": {"batch_frequency": 5000, "max_images": 8, "increase_log_steps": False}}}


def kl_training(z: int, mult: list[int], attention: list[int]) -> Tree:
    loss = {"target": "ldm.modules.losses.LPIPSWithDiscriminator", "params": {"disc_start": 50001, "kl_weight": 1e-6, "disc_weight": 0.5}}
    node = autoencoder("AutoencoderKL", z, mult, attention, loss=loss, monitor="val/rec_loss")
    sr = {"size": 256, "degradation": "pil_nearest"}
    return {
        "model": {"base_learning_rate": 4.5e-6, **node},
        "data": images("ldm.data.imagenet.ImageNetSR", 12, sr, wrap=True),
        "lightning": {"callbacks": LOGGER, "trainer": {"benchmark": True, "accumulate_grad_batches": 2}},
    }


def kl_released(z: int, mult: list[int], attention: list[int], batch_size: int) -> Tree:
    tree = kl_training(z, mult, attention)
    return {"model": tree["model"], "data": images("ldm.data.openimages.FullOpenImages", batch_size, OPENIMAGES, num_workers=16, wrap=True)}


def vq_released(z: int, mult: list[int], attention: list[int], codes: int, start: int, weight: float, batch_size: int, **more: Any) -> Tree:
    loss: Tree = {"disc_conditional": False, "disc_in_channels": 3, "disc_start": start, "disc_weight": weight, "codebook_weight": 1.0}
    loss |= {"disc_num_layers": 2} if weight == 0.6 or len(mult) == 5 else {}
    target = "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
    node = autoencoder("VQModel", z, mult, attention, codes, {"target": target, "params": loss}, monitor="val/rec_loss", **more)
    data = {"crop_size": 256} if mult == [1, 2, 4] else OPENIMAGES
    return {
        "model": {"base_learning_rate": 4.5e-6, **node},
        "data": images("ldm.data.openimages.FullOpenImages", batch_size, data, num_workers=16),
    }


def vq4(**more: Any) -> Tree:
    return autoencoder("VQModelInterface", 3, [1, 2, 4], [], 8192, **more)


def vq8(**more: Any) -> Tree:
    return autoencoder("VQModelInterface", 4, [1, 2, 2, 4], [32], 16384, **more)


def kl8(**more: Any) -> Tree:
    return autoencoder("AutoencoderKL", 4, [1, 2, 4, 4], [], monitor="val/rec_loss", **more)


def unet(cin: int, cout: int, size: int, width: int, mult: list[int], attention: list[int], **more: Any) -> Tree:
    params: Tree = {"image_size": size, "in_channels": cin, "out_channels": cout, "model_channels": width, "channel_mult": mult}
    params |= {"attention_resolutions": attention, "num_res_blocks": 2, **more}
    return {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": params}


def crossattn(width: int, depth: int = 1) -> Tree:
    return {"use_spatial_transformer": True, "transformer_depth": depth, "context_dim": width}


def ldm(rate: float, network: Tree, stage: Tree, cond: Any, ends: tuple[float, float], data: Tree | None = None, **more: Any) -> Tree:
    p = network["params"]
    params: Tree = {"linear_start": ends[0], "linear_end": ends[1], "num_timesteps_cond": 1, "log_every_t": 200, "timesteps": 1000}
    params |= {"first_stage_key": "image", "image_size": p["image_size"], "channels": p["out_channels"], "monitor": "val/loss_simple_ema"}
    params |= {**more, "unet_config": network, "first_stage_config": stage, "cond_stage_config": cond}
    tree: Tree = {"model": {"base_learning_rate": rate, "target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}
    if data is not None:
        tree["data"] = data
    return tree


def with_logger(tree: Tree) -> Tree:
    return {**tree, "lightning": {"callbacks": LOGGER, "trainer": {"benchmark": True}}}


UNCOND = "__is_unconditional__"
VQ4_FILE = "models/first_stage_models/vq-f4/model.ckpt"
YAML_AS_FILE = "configs/first_stage_models/vq-f4/model.yaml"
E195, E155, E205 = (0.0015, 0.0195), (0.0015, 0.0155), (0.0015, 0.0205)


def faces(name: str, batch_size: int, stage: Tree) -> Tree:
    net = unet(3, 3, 64, 224, [1, 2, 3, 4], [8, 4, 2], num_head_channels=32)
    return ldm(2e-6, net, stage, UNCOND, E195, images(name, batch_size, num_workers=5, wrap=False))


def churches(stage: Tree, extra: Tree) -> Tree:
    net = unet(4, 4, 32, 192, [1, 2, 2, 4, 4], [1, 2, 4, 8], num_heads=8, use_scale_shift_norm=True, resblock_updown=True)
    warm = {"warm_up_steps": [10000], "cycle_lengths": [10000000000000], "f_start": [1e-6], "f_max": [1.0], "f_min": [1.0]}
    scheduler = {"target": "ldm.lr_scheduler.LambdaLinearScheduler", "params": warm}
    more = {"loss_type": "l1", "cond_stage_key": "image", "scale_by_std": True, "concat_mode": False, "scheduler_config": scheduler}
    return ldm(5e-5, net, stage, UNCOND, E155, images("ldm.data.lsun.LSUNChurches", 96, num_workers=5, wrap=False), **more, **extra)


def imagenet8(stage: Tree, data: Tree) -> Tree:
    net = unet(4, 4, 32, 256, [1, 2, 4], [4, 2, 1], num_head_channels=32, **crossattn(512))
    cond = {"target": "ldm.modules.encoders.modules.ClassEmbedder", "params": {"embed_dim": 512, "key": "class_label"}}
    more = {"cond_stage_key": "class_label", "conditioning_key": "crossattn", "cond_stage_trainable": True}
    return ldm(1e-6, net, stage, cond, E195, data, **more)


def semantic(data: Tree | None, size: int) -> Tree:
    net = unet(6, 3, size, 128, [1, 4, 8], [32, 16, 8], num_heads=8)
    params = {"n_stages": 2, "in_channels": 182, "out_channels": 3}
    cond = {"target": "ldm.modules.encoders.modules.SpatialRescaler", "params": params}
    more = {"loss_type": "l1", "cond_stage_key": "segmentation", "concat_mode": True, "cond_stage_trainable": True, "monitor": "val/loss"}
    return ldm(1e-6, net, vq4(), cond, E205, data, **more)


def bert(width: int, depth: int, **more: Any) -> Tree:
    return {"target": "ldm.modules.encoders.modules.BERTEmbedder", "params": {"n_embed": width, "n_layer": depth, **more}}


def inpainting() -> Tree:
    net = unet(7, 3, 64, 256, [1, 2, 3, 4], [8, 4, 2], num_heads=8, resblock_updown=True)
    cosine = {"verbosity_interval": 0, "warm_up_steps": 1000, "max_decay_steps": 50000, "lr_start": 0.001, "lr_max": 0.1, "lr_min": 0.0001}
    scheduler = {"target": "ldm.lr_scheduler.LambdaWarmUpCosineScheduler", "params": cosine}
    stage = vq4(noattn=True, monitor="val/rec_loss")
    stage["params"]["lossconfig"] = {"target": "ldm.modules.losses.contperceptual.DummyLoss"}
    more = {"loss_type": "l1", "cond_stage_key": "masked_image", "concat_mode": True, "scheduler_config": scheduler, "monitor": "val/loss"}
    return ldm(1e-6, net, stage, "__is_first_stage__", E205, **more)


def trees() -> dict[str, Tree]:
    """Key table's name -> the config's content."""
    text = {"cond_stage_key": "caption", "conditioning_key": "crossattn", "cond_stage_trainable": True}
    bsr_data = {"size": 256, "degradation": "bsrgan_light", "downscale_f": 4, "min_crop_f": 0.5, "max_crop_f": 1.0, "random_crop": True}
    imagenet = images("ldm.data.imagenet.ImageNet", 64, {"config": {"size": 256}}, num_workers=12, wrap=False)
    landscapes = images("ldm.data.landscapes.RFW", 8, {"size": 768, "crop_size": 512, "segmentation_to_float32": True}, wrap=True)
    cin2 = unet(3, 3, 64, 192, [1, 2, 3, 5], [8, 4, 2], num_heads=1, **crossattn(512))
    classes = {"n_classes": 1001, "embed_dim": 512, "key": "class_label"}
    text256 = unet(3, 3, 64, 192, [1, 2, 3, 5], [8, 4, 2], num_head_channels=32, **crossattn(640))
    text1b = unet(4, 4, 32, 320, [1, 2, 4, 4], [4, 2, 1], num_heads=8, **crossattn(1280), use_checkpoint=True, legacy=False)
    layout = unet(3, 3, 64, 128, [1, 2, 3, 4], [8, 4, 2], num_head_channels=32, **crossattn(512, 3))
    rdm = unet(16, 16, 48, 448, [1, 2, 3, 4], [4, 2, 1], num_head_channels=32, use_scale_shift_norm=False, resblock_updown=False)
    rdm["params"] |= crossattn(768) | {"use_checkpoint": True}
    bsr = unet(6, 3, 64, 160, [1, 2, 2, 4], [16, 8], num_head_channels=32)
    kl16 = autoencoder("AutoencoderKL", 16, [1, 1, 2, 2, 4], [16], monitor="val/rec_loss")
    boxes = images("ldm.data.openimages.OpenImagesBBox", 24, num_workers=20, wrap=False)
    found = {
        "configs-autoencoder-autoencoder_kl_16x16x16": kl_training(16, [1, 1, 2, 2, 4], [16]),
        "configs-autoencoder-autoencoder_kl_32x32x4": kl_training(4, [1, 2, 4, 4], []),
        "configs-autoencoder-autoencoder_kl_64x64x3": kl_training(3, [1, 2, 4], []),
        "configs-autoencoder-autoencoder_kl_8x8x64": kl_training(64, [1, 1, 2, 2, 4, 4], [16, 8]),
        "configs-latent-diffusion-celebahq-ldm-vq-4": with_logger(faces("taming.data.faceshq.CelebAHQ", 48, vq4(ckpt_path=VQ4_FILE))),
        "configs-latent-diffusion-ffhq-ldm-vq-4": with_logger(faces("taming.data.faceshq.FFHQ", 42, vq4(ckpt_path=YAML_AS_FILE))),
        "configs-latent-diffusion-lsun_bedrooms-ldm-vq-4": with_logger(
            faces("ldm.data.lsun.LSUNBedrooms", 48, vq4(ckpt_path=YAML_AS_FILE, monitor="val/rec_loss"))
        ),
        "configs-latent-diffusion-lsun_churches-ldm-kl-8": with_logger(
            churches(kl8(ckpt_path="models/first_stage_models/kl-f8/model.ckpt"), {"cond_stage_trainable": False})
        ),
        "configs-latent-diffusion-cin-ldm-vq-f8": with_logger(
            imagenet8(vq8(ckpt_path="configs/first_stage_models/vq-f8/model.yaml"), imagenet)
        ),
        "configs-latent-diffusion-cin256-v2": ldm(
            1e-4,
            cin2,
            vq4(),
            {"target": "ldm.modules.encoders.modules.ClassEmbedder", "params": classes},
            E195,
            cond_stage_key="class_label",
            conditioning_key="crossattn",
            cond_stage_trainable=True,
            use_ema=False,
            monitor="val/loss",
        ),
        "configs-latent-diffusion-txt2img-1p4B-eval": ldm(
            5e-5, text1b, kl8(), bert(1280, 32), (0.00085, 0.012), **text, scale_factor=0.18215, use_ema=False
        ),
        "configs-retrieval-augmented-diffusion-768x768": ldm(
            1e-4,
            rdm,
            kl16,
            IDENTITY,
            (0.0015, 0.015),
            first_stage_key="jpg",
            cond_stage_key="nix",
            cond_stage_trainable=False,
            conditioning_key="crossattn",
            scale_by_std=False,
            scale_factor=0.22765929,
        ),
        "models-first_stage-kl-f16": kl_released(16, [1, 1, 2, 2, 4], [16], 6),
        "models-first_stage-kl-f32": kl_released(64, [1, 1, 2, 2, 4, 4], [16, 8], 6),
        "models-first_stage-kl-f4": kl_released(3, [1, 2, 4], [], 10),
        "models-first_stage-kl-f8": kl_released(4, [1, 2, 4, 4], [], 4),
        "models-first_stage-vq-f16": vq_released(8, [1, 1, 2, 2, 4], [16], 16384, 250001, 0.75, 14),
        "models-first_stage-vq-f4": vq_released(3, [1, 2, 4], [], 8192, 0, 0.75, 8),
        "models-first_stage-vq-f4-noattn": vq_released(3, [1, 2, 4], [], 8192, 11, 0.75, 8, noattn=True),
        "models-first_stage-vq-f8": vq_released(4, [1, 2, 2, 4], [32], 16384, 1, 0.6, 10),
        "models-first_stage-vq-f8-n256": vq_released(4, [1, 2, 2, 4], [32], 256, 250001, 0.75, 10),
        "models-ldm-bsr_sr": ldm(
            1e-6,
            bsr,
            vq4(),
            IDENTITY,
            E155,
            images("ldm.data.openimages.SuperresOpenImagesAdvanced", 64, bsr_data, num_workers=12, wrap=False),
            loss_type="l2",
            cond_stage_key="LR_image",
            concat_mode=True,
            cond_stage_trainable=False,
        ),
        "models-ldm-celeba256": faces("ldm.data.faceshq.CelebAHQ", 48, vq4()),
        "models-ldm-ffhq256": faces("ldm.data.faceshq.FFHQ", 42, vq4()),
        "models-ldm-lsun_beds256": faces("ldm.data.lsun.LSUNBedrooms", 48, vq4()),
        "models-ldm-lsun_churches256": churches(kl8(), {}),
        "models-ldm-cin256": imagenet8(vq8(), imagenet),
        "models-ldm-inpainting_big": inpainting(),
        "models-ldm-layout2img-openimages256": ldm(
            2e-6,
            layout,
            vq4(),
            bert(512, 16, vocab_size=8192, max_seq_len=92, use_tokenizer=False),
            E205,
            boxes,
            loss_type="l1",
            cond_stage_key="coordinates_bbox",
            conditioning_key="crossattn",
            cond_stage_trainable=True,
        ),
        "models-ldm-semantic_synthesis256": semantic(None, 64),
        "models-ldm-semantic_synthesis512": semantic(landscapes, 128),
        "models-ldm-text2img256": ldm(
            2e-6, text256, vq4(), bert(640, 32), E195, images("ldm.data.previews.pytorch_dataset.Previews", 28, num_workers=20), **text
        ),
    }
    assert len(found) == 32
    return found
