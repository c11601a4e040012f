"""What is trained (a task) and everything that must survive `kill -9` (the state)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from glint.data.dataset import PairBatch

Report = dict[str, float]


class Objective(Protocol):
    """One batch in, the loss and what to log out. The generator lives on the CPU."""

    def __call__(self, batch: PairBatch, generator: torch.Generator) -> tuple[Tensor, Report]:
        """Return the loss and its parts."""
        ...


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Task:
    """An objective with what belongs to it. A new objective is one function that returns a Task.

    Attributes:
        objective: Gives the loss.
        trained: Modules whose parameters are optimised, by name ("model").
        kept: Modules that are stored in checkpoints but not optimised (a moving-average teacher).
        rebuilt: Modules made again from the recipe at every start; checkpoints hold their hash only.
        export: Writes the result of training into a folder.
        after_step: Called after each update of the weights.
        parts: Parameters by part of the model, whether they learn or not: for telling how many do.
    """

    objective: Objective
    trained: dict[str, nn.Module]
    export: Callable[[Path], None]
    kept: dict[str, nn.Module] = field(default_factory=dict)
    rebuilt: dict[str, nn.Module] = field(default_factory=dict)
    after_step: Callable[[], None] = _nothing
    parts: dict[str, list[nn.Parameter]] = field(default_factory=dict[str, list[nn.Parameter]])

    def modules(self) -> Iterator[nn.Module]:
        """Yield every module, to be moved to a device."""
        yield from (self.trained | self.kept | self.rebuilt).values()

    def set_training(self, mode: bool) -> None:
        """Switch the trained modules between training and evaluation; teachers always evaluate."""
        for module in self.trained.values():
            module.train(mode)
        for module in (self.kept | self.rebuilt).values():
            module.eval()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters to optimise by full name, each once."""
        found: dict[str, nn.Parameter] = {}
        seen: set[int] = set()
        for prefix, module in self.trained.items():
            for name, parameter in module.named_parameters():
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    found[f"{prefix}.{name}"] = parameter
        return found

    def census(self) -> list[str]:
        """Return lines for the reader: how many parameters learn, by part and in all."""
        parts = self.parts or {name: list(module.parameters()) for name, module in self.trained.items()}
        rows = parts | {"total": [parameter for part in parts.values() for parameter in part]}
        lines: list[str] = []
        for name, parameters in rows.items():
            count = sum(p.numel() for p in parameters)
            learn = sum(p.numel() for p in parameters if p.requires_grad)
            share = f"{learn / max(count, 1):.2%}"
            lines.append(f"{name:<8}  {learn:,} of {count:,} parameters learn ({share})")
        return lines

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors a checkpoint stores, by full name."""
        modules = self.trained | self.kept
        return {
            f"{p}.{name}": tensor
            for p, module in modules.items()
            for name, tensor in module.state_dict().items()
        }


@dataclass(slots=True)
class TrainState:
    """Where training stands. The data order and all random numbers follow from (seed, step).

    Attributes:
        task: Weights.
        optimizer: Moments.
        rates: (steps, groups) learning rate of each parameter group at each step.
        step: Updates done.
        window: Sums of logged numbers since the last log line, and their count under "count".
    """

    task: Task
    optimizer: torch.optim.Optimizer
    rates: Tensor
    step: int = 0
    window: dict[str, float] = field(default_factory=dict)

    def named_moments(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors as "parameter|moment"."""
        parameters = self.task.parameters()
        state: dict[Any, dict[str, Any]] = self.optimizer.state  # pyright: ignore[reportAssignmentType]
        return {
            f"{name}|{key}": torch.as_tensor(value)
            for name, parameter in parameters.items()
            for key, value in state.get(parameter, {}).items()
        }

    def load_moments(self, moments: dict[str, Tensor]) -> None:
        """Put stored optimizer tensors back."""
        parameters = self.task.parameters()
        for full, value in moments.items():
            name, _, key = full.rpartition("|")
            parameter = parameters[name]
            # Fused AdamW walks through memory: moments must lie as their parameter does (channels last or not).
            # `step` is a float32 scalar, and must be on the device like the moments.
            alike = value.shape == parameter.shape
            stored = (
                torch.empty_like(parameter) if alike else torch.empty_like(value, device=parameter.device)
            )
            self.optimizer.state[parameter][key] = stored.copy_(value)
