"""The whole objective on three small images: which pairs it leaves out, and that every part reaches the total."""

from dataclasses import replace

import pytest
import torch

from glint.config import load_config
from glint.data.dataset import PairBatch
from glint.losses.objective import Objective
from glint.model.glint import GlintModel
from glint.text.semantics import flip_polarity, read_sentence

TINY = ["data.size_px=64", "vision.arch.widths=[8,8,16,16]", "vision.arch.neck_width=16", "loss.dfr=0"]


def objective(*overrides: str) -> Objective:
    torch.manual_seed(0)
    cfg = load_config("smoke", [*TINY, *overrides])
    return Objective(cfg, GlintModel(cfg), None)


def batch(*reports: str) -> PairBatch:
    read = [read_sentence(text) for text in reports]
    return PairBatch(
        images=torch.rand(len(reports), 1, 64, 64, generator=torch.Generator().manual_seed(1)),
        valid_px=torch.ones(len(reports), 64, 64, dtype=torch.bool),
        sentences=list(reports),
        owner=torch.arange(len(reports)),
        flips=[flip_polarity(text) for text in reports],
        states=[sentence.state for sentence in read],
        normal=[sentence.normal for sentence in read],
        reports=[[sentence] for sentence in read],
    )


def unknown_share(settings: list[str], *reports: str) -> float:
    _, report = objective(*settings)(batch(*reports), torch.Generator().manual_seed(0))
    return report["unknown"]


def test_objective__the_same_claim_in_other_words_is_left_out() -> None:
    reports = ("Small left pleural effusion.", "Pleural effusion.", "There is a pacemaker.")
    assert unknown_share([], *reports) == pytest.approx(1 / 9)  # the second sentence and the first image
    assert unknown_share(["loss.false_negatives=keep"], *reports) == 0.0


def test_objective__what_a_report_says_in_sentences_that_were_not_drawn_counts() -> None:
    drawn = batch("Small left pleural effusion.", "Left nodule.", "There is a pacemaker.")
    whole = [[read_sentence(text)] for text in drawn.sentences]
    whole[1].append(read_sentence("Pleural effusion."))  # the first sentence names a place, this does not
    whole[2].append(read_sentence("Small left pleural effusion."))
    make, same = objective(), torch.Generator()
    _, before = make(drawn, same.manual_seed(0))
    _, after = make(replace(drawn, reports=whole), same.manual_seed(0))
    assert before["unknown"] == 0.0
    assert after["unknown"] == 0.0, "one without a place does not make one with a place true"
    assert after["open_present"] != before["open_present"], "the third image is one more that matches"
    whole[1][-1] = read_sentence("Left pleural effusion.")
    assert make(replace(drawn, reports=whole), same.manual_seed(0))[1]["unknown"] == pytest.approx(1 / 9)


def test_objective__a_batch_that_affirms_nothing_is_trained_on() -> None:
    reports = ("The lungs are clear.", "The heart is normal in size.", "No acute findings in the chest.")
    assert unknown_share(["loss.negated=contrast"], *reports) == 0.0


def test_objective__a_denial_is_a_negative_of_what_it_denies() -> None:
    reports = ("Pleural effusion.", "No pleural effusion.", "There is a pacemaker.")
    assert unknown_share(["loss.negated=contrast"], *reports) == 0.0


def test_objective__total_is_the_weighted_sum_of_its_parts() -> None:
    settings = ["loss.polarity=0.7", "loss.gate_off=0.2", "loss.gate_budget=0.3"]
    reports = ("There is a right pleural effusion.", "No pleural effusion.", "There is a pacemaker.")
    total, report = objective(*settings)(batch(*reports), torch.Generator().manual_seed(0))
    assert report["loss_polarity"] > 0
    expected = (
        report["loss_align"]
        + 0.7 * report["loss_polarity"]
        + 0.2 * report["loss_gate_off"]
        + 0.3 * report["loss_gate_budget"]
    )
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)


def test_objective__a_part_without_weight_is_not_computed() -> None:
    _, report = objective("loss.polarity=0")(batch(*REPORTS), torch.Generator())
    assert "loss_polarity" not in report


@pytest.mark.parametrize(
    "settings", [["align.type=gated"], ["align.pool=l2_mean"], ["align.type=vlcabs"], ["align.type=global"]]
)
def test_objective__bf16_stays_near_fp32(settings: list[str]) -> None:
    plain, report = objective("loss.gate_mix=3", *settings)(batch(*REPORTS), torch.Generator())
    short = objective("loss.gate_mix=3", *settings)
    if short.model.align.gate is not None:
        # Wide open: 1 in bf16, which the loss of mixed images must survive.
        torch.nn.init.constant_(short.model.align.gate.beta, 8.0)
        assert _in_bf16(short)[1]["open_present"] > 0.99
        short = objective("loss.gate_mix=3", *settings)
    total, found = _in_bf16(short)
    assert float(total.detach()) == pytest.approx(float(plain.detach()), rel=0.03)
    for name, value in report.items():
        assert found[name] == pytest.approx(value, rel=0.1, abs=0.02), name


def _in_bf16(make: Objective) -> tuple[torch.Tensor, dict[str, float]]:
    with torch.autocast("cpu", torch.bfloat16):
        total, report = make(batch(*REPORTS), torch.Generator())
    total.backward()  # pyright: ignore[reportUnknownMemberType]
    grads = [p.grad for p in make.model.align.parameters() if p.grad is not None]
    assert grads
    assert all(bool(torch.isfinite(grad).all()) for grad in grads)
    assert float(total.detach()) < 50, "not the logarithm of zero"
    return total, report


def test_objective__mixed_images_teach_the_encoder_and_count_with_their_weight() -> None:
    reports = ("There is a right pleural effusion.", "Left nodule.", "There is a pacemaker.", "Cardiomegaly.")
    whole, before = objective("loss.gate_mix=3")(batch(*reports), torch.Generator().manual_seed(0))
    plain, without = objective()(batch(*reports), torch.Generator().manual_seed(0))
    assert "loss_gate_mix" not in without
    assert before["loss_align"] == pytest.approx(without["loss_align"]), "what is mixed has no score"
    assert before["loss_gate_mix"] > 0
    assert float((whole - plain).detach()) == pytest.approx(3 * before["loss_gate_mix"], rel=1e-3)
    hidden, _ = objective("loss.gate_mix=3", "align.token_keep=0.5")(batch(*reports), torch.Generator())
    assert bool(torch.isfinite(hidden))


def test_objective__targets_can_be_those_of_the_start() -> None:
    reports = ("There is a right pleural effusion.", "Left nodule.", "There is a pacemaker.", "Cardiomegaly.")
    settings = "loss.gate_mix=3", "align.spread=8", "train.start=x", "loss.mix_targets=start"
    make = objective(*settings)
    make.start = objective("align.spread=8").model.eval().requires_grad_(False)
    total, first = make(batch(*reports), torch.Generator().manual_seed(0))
    total.backward()  # pyright: ignore[reportUnknownMemberType]
    assert all(p.grad is None for p in make.start.parameters())
    with torch.no_grad():
        assert make.start.align.gate is not None
        make.start.align.gate.beta += 4.0
    _, wider = make(batch(*reports), torch.Generator().manual_seed(0))
    _, own = objective("loss.gate_mix=3")(batch(*reports), torch.Generator().manual_seed(0))
    assert abs(wider["loss_gate_mix"] - first["loss_gate_mix"]) > 0.01
    assert first["loss_gate_mix"] != own["loss_gate_mix"]


@pytest.mark.parametrize("settings", [["align.type=vlcabs"], ["align.gate_activation=softmax"]])
def test_objective__nothing_is_mixed_without_a_sigmoid_gate(settings: list[str]) -> None:
    _, report = objective("loss.gate_mix=3", *settings)(batch(*REPORTS), torch.Generator())
    assert "loss_gate_mix" not in report


REPORTS = (
    "There is a right pleural effusion.",
    "No pleural effusion.",
    "There is a pacemaker.",
    "Small left pleural effusion.",
)


def step(*overrides: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    task = objective("align.token_keep=0.6", *overrides)
    total, _ = task(batch(*REPORTS), torch.Generator().manual_seed(0))
    total.backward()
    return total.detach(), {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pool", ["null_mass", "null_token", "l2_mean"])
def test_objective__chunked_and_reference_kernels_agree(pool: str) -> None:
    settings = [f"align.pool={pool}", "loss.gate_off=0.5"]
    total, grads = step("align.kernel=chunked", *settings)
    truth, true_grads = step("align.kernel=reference", *settings)
    assert float(total) == pytest.approx(float(truth), rel=1e-5)
    assert grads.keys() == true_grads.keys()
    for name, grad in true_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def losses(kernel: str, steps: int) -> list[float]:
    task = objective(f"align.kernel={kernel}", "loss.gate_off=0.5")
    optimizer = torch.optim.AdamW((p for p in task.model.parameters() if p.requires_grad), lr=1e-3)
    found = []
    for i in range(steps):
        total, _ = task(batch(*REPORTS), torch.Generator().manual_seed(i))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append(float(total.detach()))
    return found


@pytest.mark.slow
def test_objective__200_steps_with_either_kernel_give_one_loss_curve() -> None:
    chunked, reference = losses("chunked", 200), losses("reference", 200)
    assert reference[-1] < 0.9 * reference[0]
    assert max(abs(a - b) for a, b in zip(chunked, reference, strict=True)) < 1e-4
