"""Sparsity of the gate: closed where the sentence does not belong, bounded where it does (docs/method.md)."""

from torch import Tensor


def gate_off(open_SB: Tensor, negative_SB: Tensor) -> Tensor:
    """Mean gate over unmatched pairs (sparsity.l1_neg), of each pair's mean gate. Zero when there are none."""
    if not bool(negative_SB.any()):
        return open_SB.sum() * 0.0
    return open_SB[negative_SB].mean()


def gate_budget(gate_SP: Tensor, rho_max: float, rho_min: float) -> Tensor:
    """Hinges on matched affirmative pairs (S, P): at most rho_max open on average, at least one patch at rho_min.

    relu(mean_p g - rho_max)^2 + relu(rho_min - max_p g)^2, averaged. The second term revives dead gates.
    """
    if gate_SP.numel() == 0:
        return gate_SP.sum()
    too_open = (gate_SP.mean(-1) - rho_max).relu().square()
    dead = (rho_min - gate_SP.amax(-1)).relu().square()
    return (too_open + dead).mean()
