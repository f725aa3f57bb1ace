"""Ten steps of masked-patch prediction (Dosovitskiy et al., arXiv:2010.11929, appendix B.1.2), by a small Vision Transformer in
PyTorch written here from the paper:

    python tools/golden/masked_patches.py

Which patches are corrupted, and by what, is drawn here and kept, so that both sides corrupt the same. Weights, images and losses
are small.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from common import seeded

OUT = Path(__file__).resolve().parents[2] / "goldens" / "masked_patches.safetensors"
STEPS, IMAGES, PATCHES, EACH = 10, 3, 16, 8
WIDTH, DEPTH, HEADS, MLP, SIDE, PATCH = 24, 2, 3, 40, 32, 8


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        return self.projection((weights @ v).transpose(1, 2).reshape(batch, tokens, WIDTH))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(WIDTH, MLP)
        self.down = nn.Linear(MLP, WIDTH)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention, self.mlp = Attention(), Mlp()

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MaskedPatches(nn.Module):
    """The names of parameters are ours, but for dots inside them."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.ParameterDict({"class": nn.Parameter(torch.zeros(WIDTH))})
        self.positions = nn.Parameter(torch.zeros(1 + PATCHES, WIDTH))
        self.patches = nn.Linear(3 * PATCH * PATCH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.prediction = nn.ParameterDict({"mask": nn.Parameter(torch.zeros(WIDTH))})
        self.color = nn.Linear(WIDTH, 512)

    def forward(self, images, patches, sources):
        """Logits of corrupted patches. `patches` and `sources` are `[images, corrupted]`; a source is a patch, or −1 for the mask."""
        embeddings = self.patches(F.unfold(images, PATCH, stride=PATCH).transpose(1, 2))
        rows = torch.arange(len(images))[:, None]
        replaced = torch.where((sources < 0)[..., None], self.prediction["mask"], embeddings[rows, sources.clamp(min=0)])
        x = embeddings.clone()
        x[rows, patches] = replaced
        x = torch.cat([self.tokens["class"].expand(len(x), 1, WIDTH), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.color(self.norm(x)[rows, 1 + patches])


def main():
    torch.manual_seed(0)
    generator = seeded("masked patches")
    model = MaskedPatches()
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("weight") and "norm" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 2 and name != "positions":
                parameter.copy_(noise / parameter.shape[1] ** 0.5)
            else:
                parameter.copy_(0.2 * noise)
    # Patches of many colors, in bytes.
    base = torch.randint(0, 256, (IMAGES, 3, SIDE // PATCH, SIDE // PATCH), generator=generator)
    base = base.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    noise = torch.randint(-20, 21, base.shape, generator=generator)
    levels = (base + noise).clamp(0, 255)
    images = (levels.to(torch.float32) / 255 - 0.5) / 0.5
    means = F.unfold(levels.to(torch.float64), PATCH, stride=PATCH).reshape(IMAGES, 3, PATCH * PATCH, PATCHES).mean(2) / 255
    assert ((means * 8).frac() > 1e-3).all() and ((means * 8).frac() < 0.999).all(), "a color at the edge of a level"
    red, green, blue = (means * 8).to(torch.int64).clamp(max=7).unbind(1)
    colors = 64 * red + 8 * green + blue
    names = {name: name.replace("color.", "prediction.color.") for name, _ in model.named_parameters()}
    kept = {f"parameters.{names[name]}": value.detach().clone() for name, value in model.named_parameters()}
    kept |= {"pixel_values": images, "colors": colors.to(torch.float32)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)
    losses, all_patches, all_sources = [], [], []
    for step in range(STEPS):
        patches = torch.rand(IMAGES, PATCHES, generator=generator).argsort(1)[:, :EACH].sort(1).values
        kind = torch.rand(IMAGES, EACH, generator=generator)
        other = torch.randint(0, PATCHES - 1, (IMAGES, EACH), generator=generator)
        other = other + (other >= patches).to(torch.int64)
        sources = torch.where(kind < 0.8, -1, torch.where(kind < 0.9, other, patches))
        all_patches.append(patches)
        all_sources.append(sources)
        logits = model(images, patches, sources)
        loss = F.cross_entropy(logits.flatten(0, 1), colors.gather(1, patches).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 0:
            kept["predicted"] = logits.detach().flatten(0, 1).clone()
    kinds = torch.stack(all_sources)
    assert (kinds[0] < 0).any() and (kinds[0] == all_patches[0]).any() and ((kinds[0] >= 0) & (kinds[0] != all_patches[0])).any()
    kept |= {"patches": torch.stack(all_patches).to(torch.float32), "sources": kinds.to(torch.float32), "losses": torch.tensor(losses)}
    save_file({key: value.contiguous() for key, value in kept.items()}, OUT)
    print(f"{OUT.stat().st_size / 1024:.0f} KiB", [f"{loss:.6f}" for loss in losses])


if __name__ == "__main__":
    main()
