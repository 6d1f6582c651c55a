"""Which arithmetic a worker uses, by what the device can do and said in its log; `bench-gpu` without a GPU."""

import logging
import sys
from pathlib import Path

import pytest
import torch

from ada_api.stages import AgentModel, Algorithm
from ada_trainer import kernels
from ada_trainer.learner import Learner

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import gpu

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.mark.parametrize(
    ("device", "capability", "matrix_units", "name", "reason"),
    [
        ("cpu", 0, False, "float32", "no matrix units"),
        ("cpu", 0, True, "bfloat16", "has matrix units"),
        ("cuda", 7, False, "float32", "capability 7"),
        ("cuda", 9, False, "bfloat16", "capability 9"),
    ],
)
def test_the_choice_follows_from_the_device(
    device: str, capability: int, matrix_units: bool, name: str, reason: str
) -> None:
    chosen, why = kernels.decide(device, capability, matrix_units)
    assert chosen == name and reason in why


def test_matrix_units_are_read_from_the_processors_own_words(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("flags : fpu avx512f amx_bf16 amx_tile\n")
    assert kernels.has_matrix_units(told)
    told.write_text("flags : fpu avx2\n")
    assert not kernels.has_matrix_units(told) and not kernels.has_matrix_units(tmp_path / "none")


def test_the_choice_and_what_was_measured_stand_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ada_trainer.kernels"):
        products = kernels.choose(torch.device("cpu"))
    (line,) = caplog.messages
    name = "bfloat16" if kernels.has_matrix_units() else "float32"
    assert products == getattr(torch, name) and f"made in {name}: the processor has" in line
    rates = [float(part.split()[0].replace(",", "")) for part in line.split("GFLOP/s: ")[1].split(", ")[:1]]
    assert rates[0] > 0 and "in bfloat16" in line


@pytest.mark.parametrize("device", DEVICES)
def test_captured_steps_find_what_plain_ones_find_around_the_ring_and_after_an_update(device: str) -> None:
    assert kernels.difference_when_captured(torch.device(device)) <= (0.0 if device == "cpu" else kernels.CLOSE)


def test_steps_are_not_captured_where_that_does_not_work_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not kernels.can_capture(torch.device("cpu"))
    for found, reason in ((0.5, "off by 0.5"), (float("nan"), "off by nan"), (None, "failed: no graphs here")):

        def difference(device: torch.device, far: float | None = found) -> float:
            if far is None:
                raise RuntimeError("no graphs here")
            return far

        monkeypatch.setattr(kernels, "difference_when_captured", difference)
        caplog.clear()
        assert not kernels.can_capture(torch.device("cuda"))
        assert reason in caplog.messages[0]
    monkeypatch.setattr(kernels, "difference_when_captured", lambda device: 1e-5)
    assert kernels.can_capture(torch.device("cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run `make bench-gpu`")
def test_the_benchmark_of_gpus_says_why_it_can_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main() == 2
    assert "bench-gpu needs a CUDA device" in capsys.readouterr().err


def test_what_it_measures_acts_and_waits_on_any_device() -> None:
    torch.set_num_threads(1)
    network = gpu.network_of(AgentModel(preset="nano", memory=8)).requires_grad_(False)
    gpu.acting(network, 2, torch.device("cpu"))()
    told = gpu.made_up_batch(network, 4, 2)
    assert told.reward.device == network.rest.device and told.roots is None


def test_what_it_learns_in_bfloat16_is_rounded() -> None:
    torch.set_num_threads(1)
    algorithm = Algorithm(name="ppo", epochs=1, minibatches=1, unroll=4, worlds=2, learning_rate=1e-12)
    learner = Learner(gpu.network_of(AgentModel(preset="nano", memory=8)), algorithm, seed=0)
    told = gpu.made_up_batch(learner.network, 4, 2)
    kinds = (torch.float32, torch.bfloat16, torch.float32)
    first, rounded, again = (gpu.update(learner, told, "highest", kind).value_loss for kind in kinds)
    assert again == pytest.approx(first, rel=1e-7) and rounded == pytest.approx(first, rel=1e-2)
    assert rounded != pytest.approx(first, rel=1e-6)
