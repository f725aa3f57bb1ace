"""Ten steps of a masked autoencoder, with transformers' ViTMAE as the reference:

    python tools/golden/masked.py

The masks are drawn here and kept, so that both sides hide the same patches. Weights, images and losses are small.
"""

from pathlib import Path

import torch
import transformers as hf
from safetensors.torch import save_file

from common import pixels, randomize, seeded

OUT = Path(__file__).resolve().parents[2] / "goldens" / "masked.safetensors"
STEPS, IMAGES, SEEN = 10, 3, 4


def state(model, config):
    """Our parameters out of theirs."""
    theirs = dict(model.named_parameters())
    ours = {
        "tokens.class": theirs["vit.embeddings.cls_token"].reshape(-1),
        "patches.weight": theirs["vit.embeddings.patch_embeddings.projection.weight"].flatten(1),
        "patches.bias": theirs["vit.embeddings.patch_embeddings.projection.bias"],
        "norm.weight": theirs["vit.layernorm.weight"],
        "norm.bias": theirs["vit.layernorm.bias"],
        "decoder.mask": theirs["decoder.mask_token"].reshape(-1),
    }
    for kind in ["weight", "bias"]:
        for own, their in [("embedding", "decoder_embed"), ("norm", "decoder_norm"), ("prediction", "decoder_pred")]:
            ours[f"decoder.{own}.{kind}"] = theirs[f"decoder.{their}.{kind}"]
        towers = [("", "vit.encoder.layer", config.num_hidden_layers),
                  ("decoder.", "decoder.decoder_layers", config.decoder_num_hidden_layers)]
        if f"{towers[0][1]}.0.layernorm_before.weight" not in theirs:
            towers[0] = ("", "vit.layers", config.num_hidden_layers)
        for prefix, their, depth in towers:
            for i in range(depth):
                block = lambda part: theirs[f"{their}.{i}.{part}.{kind}"]
                own = f"{prefix}blocks.{i}"
                ours[f"{own}.norm1.{kind}"] = block("layernorm_before")
                ours[f"{own}.norm2.{kind}"] = block("layernorm_after")
                attention = "attention.attention." if f"{their}.{i}.attention.attention.query.weight" in theirs else "attention."
                names = [f"{attention}{part}" for part in ["query", "key", "value"]]
                if f"{their}.{i}.{names[0]}.weight" not in theirs:
                    names = [f"attention.{part}_proj" for part in "qkv"]
                ours[f"{own}.attention.qkv.{kind}"] = torch.cat([block(part) for part in names])
                for out in ["attention.output.dense", "attention.o_proj"]:
                    if f"{their}.{i}.{out}.weight" in theirs:
                        ours[f"{own}.attention.projection.{kind}"] = block(out)
                for up, down in [("intermediate.dense", "output.dense"), ("mlp.fc1", "mlp.fc2")]:
                    if f"{their}.{i}.{up}.weight" in theirs:
                        ours[f"{own}.mlp.up.{kind}"] = block(up)
                        ours[f"{own}.mlp.down.{kind}"] = block(down)
    return {key: value.detach().clone().contiguous() for key, value in ours.items()}


def main():
    torch.manual_seed(0)
    config = hf.ViTMAEConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=32, patch_size=8,
        decoder_hidden_size=16, decoder_num_hidden_layers=2, decoder_num_attention_heads=2, decoder_intermediate_size=64,
        mask_ratio=0.75, norm_pix_loss=True, layer_norm_eps=1e-6,
    )
    model = hf.ViTMAEForPreTraining(config).train()
    # transformers 5.24 leaves the decoder's positions at zero.
    model.decoder.initialize_weights(16)
    generator = seeded("masked")
    for parameter in model.parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    images = pixels(generator, IMAGES, 3, 32, 32)
    kept = {"pixel_values": images}
    # Positions are fixed in the paper; ours of the encoder are whatever they are.
    kept["positions"] = model.vit.embeddings.position_embeddings.detach()[0].clone()
    kept["decoder_positions"] = model.decoder.decoder_pos_embed.detach()[0].clone()
    kept |= {f"parameters.{key}": value for key, value in state(model, config).items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)
    losses, visible = [], []
    for step in range(STEPS):
        noise = torch.rand(IMAGES, 16, generator=generator)
        visible.append(noise.argsort(1)[:, :SEEN].sort(1).values)
        output = model(pixel_values=images, noise=noise)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
        if step == 0:
            kept["predicted"] = output.logits.detach().clone()
    kept["visible"] = torch.stack(visible).to(torch.float32)
    kept["losses"] = torch.tensor(losses)
    save_file({key: value.contiguous() for key, value in kept.items()}, OUT)
    print(f"{OUT.stat().st_size / 1024:.0f} KiB", [f"{loss:.6f}" for loss in losses])


if __name__ == "__main__":
    main()
