import torch

from ldm.rng import StepRNG, derive, generator, normal


def test_equal_keys_give_equal_numbers_on_every_machine() -> None:
    assert derive(23, "eps", 5, "digit-7") == derive(23, "eps", 5, "digit-7")
    assert derive(1, 23) != derive(12, 3) and derive("a", 1) != derive("a", "2")
    assert derive("fixed", 1) == 8046360225297809644  # must never change: resumed runs depend on it


def test_a_sample_meets_the_same_noise_in_any_batch() -> None:
    like = torch.empty(3, 2, 4, 4)
    whole = StepRNG(0, 9, ["a", "b", "c"])
    part = StepRNG(0, 9, ["c"])
    assert torch.equal(whole.normal("eps", like)[2:], part.normal("eps", like[:1]))
    assert int(whole.integers("t", 1000, torch.device("cpu"))[2]) == int(part.integers("t", 1000, torch.device("cpu"))[0])
    assert bool(whole.chance("drop", 0.5)[2]) == bool(part.chance("drop", 0.5)[0])


def test_a_sample_that_comes_twice_meets_two_noises() -> None:
    from ldm.training.module import draws

    names = draws({"id": ["a", "a"], "draw": [8, 9]})
    noise = StepRNG(0, 4, names).normal("eps", torch.empty(2, 6))
    assert not torch.equal(noise[0], noise[1])


def test_steps_purposes_and_samples_differ() -> None:
    like = torch.empty(1, 8)
    draws = [StepRNG(0, step, [name]).normal(purpose, like) for step in (0, 1) for name in "ab" for purpose in ("x", "y")]
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 8


def test_the_numbers_are_normal_uniform_and_fair() -> None:
    ids = [str(i) for i in range(2000)]
    r = StepRNG(3, 1, ids)
    z = r.normal("eps", torch.empty(2000, 16))
    assert abs(float(z.mean())) < 0.02 and abs(float(z.std()) - 1) < 0.02
    t = r.integers("t", 10, torch.device("cpu"))
    assert torch.bincount(t, minlength=10).min() > 150
    assert abs(float(r.chance("drop", 0.1).float().mean()) - 0.1) < 0.025


def test_streams_move_on_by_draws() -> None:
    a, b = [generator(0, 1)], [generator(0, 1)]
    first, second = normal((4,), a), normal((4,), a)
    assert torch.equal(normal((4,), b), first) and torch.equal(normal((4,), b), second) and not torch.equal(first, second)
