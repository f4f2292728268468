import pytest
import torch

from ldm.conditioning import BertTokenizer, ClassEmbedding, ConcatImage, Conditioning, Joint, TextTransformer, Unconditional, WordTokenizer
from ldm.conditioning.fill import fill_smoothly
from ldm.errors import MissingFile, UserError


def encode(x: torch.Tensor, scaled: bool = True) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(x, 4)


def test_class_tokens_and_the_null_class() -> None:
    c = ClassEmbedding(10, 8, uncond_prob=0.1)
    batch = {"label": torch.tensor([3, 9])}
    assert c(batch, encode).context.shape == (2, 1, 8)
    assert c.drop(batch, [False, True])["label"].tolist() == [3, 10]
    torch.testing.assert_close(c.null(batch, encode).context, c.embedding.weight[10].expand(2, 1, 8))
    with pytest.raises(ValueError, match="null class"):
        ClassEmbedding(10, 8, uncond_prob=0.1, null_class=False)


def test_text_tokens_and_the_empty_caption() -> None:
    c = TextTransformer(WordTokenizer(["a", "red", "circle"]), 6, 16, 1, heads=2, head_channels=8)
    batch = {"caption": ["a red circle", "A circle, red!"]}
    out = c(batch, encode).context
    assert out.shape == (2, 6, 16) and not torch.allclose(out[0], out[1])
    assert c.drop(batch, [True, False])["caption"] == ["", "A circle, red!"]
    torch.testing.assert_close(c.null(batch, encode).context, c({"caption": ["", ""]}, encode).context)
    out.sum().backward()
    assert all(p.grad is not None for p in c.parameters())


def test_word_tokenizer_pads_cuts_and_knows_what_it_does_not_know() -> None:
    words = WordTokenizer(["a", "red", "circle"])
    assert words(["a red box", "circle"], 2).tolist() == [[2, 3], [4, 0]]
    assert words.unknown("a RED box") == ["box"]


def test_bert_tokenizer_from_a_folder(tmp_path) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "circ", "##le"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokens = BertTokenizer(str(tmp_path), vocabulary_size=len(vocabulary))
    assert tokens.missing() == []
    assert tokens(["A red circle"], 8).tolist() == [[2, 5, 6, 7, 8, 3, 0, 0]]
    with pytest.raises(UserError, match="9 tokens, expected 30522"):
        BertTokenizer(str(tmp_path))(["a"], 4)


def test_bert_tokenizer_says_what_is_missing(tmp_path) -> None:
    assert "vocab.txt" in str(BertTokenizer().missing()[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile, match=r"vocab\.txt"):
        BertTokenizer(str(tmp_path / "empty"))(["a"], 4)


def test_images_beside_the_latent() -> None:
    batch = {"masked_image": torch.rand(2, 3, 16, 16), "mask": (torch.rand(2, 1, 16, 16) > 0.5).float()}
    joint = Joint([ConcatImage("masked_image", 3, encode=True), ConcatImage("mask", 1, factor=4)])
    assert joint.reads == ("masked_image", "mask") and joint.concat_channels == 4
    out = joint(batch, encode)
    assert out.concat.shape == (2, 4, 4, 4) and out.context is None
    torch.testing.assert_close(out.concat[:, :3], encode(batch["masked_image"]))
    assert float(joint.null(batch, encode).concat.abs().sum()) == 0.0


def test_a_small_image_beside_pixels_is_enlarged() -> None:
    low = torch.rand(2, 3, 4, 4)
    out = ConcatImage("low_res", 3, enlarge=4)({"low_res": low}, encode).concat
    assert out.shape == (2, 3, 16, 16)
    expected = torch.nn.functional.interpolate(low, size=(16, 16), mode="bicubic")
    torch.testing.assert_close(out, expected)
    with pytest.raises(ValueError, match="one of encode=True, factor=1, enlarge=4 and fold=1"):
        ConcatImage("low_res", 3, encode=True, enlarge=4)


def test_a_hole_takes_the_colours_around_it() -> None:
    torch.manual_seed(0)
    image, hole = torch.rand(2, 3, 19, 12) * 2 - 1, torch.zeros(2, 1, 19, 12)
    hole[0, :, 3:15, 2:9], hole[1, :, :, 5:] = 1, 1
    filled = fill_smoothly(image, hole)
    assert torch.equal(filled[hole.expand_as(image) == 0], image[hole.expand_as(image) == 0])
    assert torch.equal(fill_smoothly(torch.where(hole > 0, 9.0, image), hole), filled), "what lies in the hole shows"
    left = fill_smoothly(torch.where(torch.arange(12) < 6, -0.5, 0.25).expand(1, 3, 19, 12).clone(), hole[:1])
    assert float(left.min()) >= -0.5 and float(left.max()) <= 0.25 and float(left[0, 0, 9, 2]) < float(left[0, 0, 9, 8])
    assert torch.allclose(fill_smoothly(torch.full_like(image, 0.7), hole), torch.full_like(image, 0.7))
    assert torch.equal(fill_smoothly(image, torch.ones_like(hole)), torch.zeros_like(image)), "nothing is known"
    large, hole = torch.full((1, 1, 512, 512), 0.7), torch.ones(1, 1, 512, 512)
    hole[..., 3, 5] = 0
    assert torch.allclose(fill_smoothly(large, hole), large), "a single known pixel"


def test_a_masked_image_is_filled_before_it_is_encoded() -> None:
    image, mask = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 3:6] = 1
    part = ConcatImage("masked_image", 3, encode=True, fill="mask")
    seen = []
    part({"masked_image": image * (1 - mask), "mask": mask}, lambda x, scaled: seen.append(x) or x)
    assert torch.equal(seen[0], fill_smoothly(image, mask)) and part.reads == ("masked_image", "mask")


def test_a_folded_mask_keeps_every_pixel() -> None:
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    part = ConcatImage("mask", 1, fold=4, signed=True)
    out = part({"mask": mask}, encode).concat
    assert part.concat_channels == 16 and out.shape == (2, 16, 2, 2)
    assert torch.equal(out[1, :, 1, 0].view(4, 4), 2 * mask[1, 0, 4:, :4] - 1)


def test_hybrid_sets_two_inlets() -> None:
    joint = Joint([ClassEmbedding(4, 8), ConcatImage("low_res", 3)])
    out = joint({"label": torch.tensor([1]), "low_res": torch.rand(1, 3, 4, 4)}, encode)
    assert out.context.shape == (1, 1, 8) and out.concat.shape == (1, 3, 4, 4)


def test_unconditional_is_nothing() -> None:
    assert Unconditional()({}, encode) == Conditioning()
