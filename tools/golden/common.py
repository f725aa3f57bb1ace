"""What the model goldens share: seeded weights, seeded inputs, and how a case is written to disk."""

from pathlib import Path

import torch
from safetensors.torch import save_file

MODELS = Path(__file__).resolve().parents[2] / "goldens" / "models"


def seeded(name: str) -> torch.Generator:
    """A generator whose seed is the case's name, so that a new case changes no old one."""
    return torch.Generator().manual_seed(int.from_bytes(name.encode(), "big") % (2**61 - 1))


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Rounds to the precision of bfloat16: small in git, and exact in every float type the tests read."""
    return tensor.to(torch.bfloat16).to(torch.float32)


@torch.no_grad()
def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Gives every parameter values that show when it is left out, transposed or taken for its neighbor."""
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and parameter.shape[0] > 1 and "position" not in name and "probe" not in name:
            values = noise * 1.4 / parameter[0].numel() ** 0.5
        elif is_norm_weight(model, name):
            values = 1.0 + 0.4 * noise
        else:
            values = 0.5 * noise
        parameter.copy_(rounded(values))
    for name, buffer in sorted(model.named_buffers()):
        if buffer.dtype.is_floating_point and "running" in name:
            buffer.copy_(rounded(torch.rand(buffer.shape, generator=generator) + 0.5))


def is_norm_weight(model, name):
    if not name.endswith("weight") and not name.endswith("gamma"):
        return False
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


def pixels(generator, *shape):
    return rounded(torch.randn(*shape, generator=generator))


def patch_mask(generator, batch, height, width):
    """A key mask over patches with about a third left out, a whole row of the first image among them."""
    mask = (torch.rand(batch, height, width, generator=generator) > 0.33).to(torch.uint8)
    mask[0, 0] = 0
    mask[:, -1, -1] = 1
    return mask


def additive(mask, prefix):
    """The mask as an additive bias over keys: 0 for attended and prefix tokens, -inf for left-out patches."""
    bias = torch.zeros(mask.shape[0], 1, 1, prefix + mask[0].numel())
    bias[:, 0, 0, prefix:].masked_fill_(mask.flatten(1) == 0, float("-inf"))
    return bias


def write(folder: Path, inputs: dict, expected: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in [("input", inputs), ("expected", expected)]:
        kept = {key: value.detach().clone().contiguous() for key, value in tensors.items() if value is not None}
        save_file(kept, folder / f"{name}.safetensors")
    total = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name:44} {total / 1024:7.0f} KiB  {', '.join(expected)}"[:150])


class Capture:
    """Collects hidden states and attention weights through hooks."""

    def __init__(self, blocks):
        self.hidden, self.attentions = [], []
        for block in blocks[:1]:
            block.register_forward_pre_hook(lambda _, args: self.hidden.append(args[0]))
        for block in blocks:
            block.register_forward_hook(lambda _, __, out: self.hidden.append(out[0] if isinstance(out, tuple) else out))

    def attention(self, module, pick=lambda args, out: args[0]):
        """Takes `pick(arguments, output)` of a module as this block's attention weights."""
        module.register_forward_hook(lambda _, args, out: self.attentions.append(pick(args, out)))

    def states(self):
        named = {f"hidden_states.{index}": state for index, state in enumerate(self.hidden)}
        return named | {f"attentions.{index}": weights for index, weights in enumerate(self.attentions)}
