"""Models that take images of any proportions (NaFlex): SigLIP 2 in transformers, with patches in a sequence, a mask and
positions of each image's own grid, and timm's `NaFlexVit`.

A golden has images of one size. In the library, the images of all cases of a model are one batch, padded and masked, so that
what each case expects was computed with the mask.
"""

import timm
import timm.models
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from timm.models.naflexvit import batch_patchify

from common import MODELS, Capture, pixels, randomize, seeded, write
from models_huggingface import LABELS, TINY, TINY_TEXT, attention_of, blocks_of, container_of
from models_timm import TINY as TINY_TIMM
from models_timm import attention_modules, use_plain_attention

PATCH = 8
MOST = 24
# Heights and widths in patches: the model's own, wide, and one row; tall.
GRIDS = {"": (4, 4), "_wide": (3, 7), "_row": (1, 9)}
TALL = {"_tall": (6, 2)}


def as_patches(images, channels_first=False):
    """[channels, height, width] to [patches, values]: rows, columns, channels of a patch."""
    patches, _ = batch_patchify(images[None], (PATCH, PATCH), channels_last=not channels_first)
    return patches[0]


def padded(tensors):
    """Several sequences as one batch with a mask."""
    batch = torch.zeros(len(tensors), MOST, tensors[0].shape[-1])
    mask = torch.zeros(len(tensors), MOST, dtype=torch.int32)
    for row, (tensor, kept) in enumerate(zip(tensors, mask)):
        batch[row, : len(tensor)] = tensor
        kept[: len(tensor)] = 1
    return batch, mask


def drawn(name, grids):
    generator = seeded(name + " input")
    return [pixels(generator, 3, PATCH * height, PATCH * width) for height, width in grids]


def siglip2(model_class, config, grids, container=None):
    def make(name):
        torch.manual_seed(0)
        model = model_class._from_config(config, attn_implementation="eager").eval()
        randomize(model, seeded(name))
        images = drawn(name, grids.values())
        values, mask = padded([as_patches(image) for image in images])
        shapes = torch.tensor(list(grids.values()))
        capture = Capture(blocks_of(getattr(model, "vision_model", model)))
        for block in blocks_of(getattr(model, "vision_model", model)):
            capture.attention(attention_of(block), lambda args, out: out[1])
        vision = model.vision_model if model_class is hf.Siglip2Model else model
        with torch.no_grad():
            output = vision(pixel_values=values, pixel_attention_mask=mask, spatial_shapes=shapes)
        logits = getattr(output, "logits", None)
        features = getattr(output, "pooler_output", None)
        if features is None:
            norm = getattr(model, "vision_model", model).post_layernorm
            last = norm(capture.hidden[-1])
            features = (last * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        states = capture.states()
        for row, (suffix, (height, width)) in enumerate(grids.items()):
            count = height * width
            folder = MODELS / (name + suffix)
            model.save_pretrained(folder)
            container_of(folder, container, model)
            hf.Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=16).save_pretrained(folder)
            expected = dict(features=features[row : row + 1])
            if logits is not None:
                expected = dict(logits=logits[row : row + 1]) | expected
            for key, value in states.items():
                kept = value[row : row + 1, :count] if "hidden" in key else value[row : row + 1, :, :count, :count]
                expected[key] = kept
            write(folder, dict(pixel_values=images[row][None]), expected)

    return make


def naflexvit(architecture, grids, **arguments):
    def make(name):
        merged = {key: value for key, value in TINY_TIMM.items() if key != "img_size"}
        merged |= dict(embed_dim=16, num_heads=2, pos_embed_grid_size=[4, 4]) | arguments
        torch.manual_seed(0)
        model = timm.create_model(architecture, **merged).eval()
        randomize(model, seeded(name))
        use_plain_attention(model)
        images = drawn(name, grids.values())
        patches, mask = padded([as_patches(image) for image in images])
        coordinates = torch.zeros(len(images), MOST, 2, dtype=torch.long)
        for row, (height, width) in enumerate(grids.values()):
            places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
            coordinates[row, : len(places)] = places
        packed = dict(patches=patches, patch_coord=coordinates, patch_valid=mask.bool())
        with torch.no_grad():
            together = model(packed)
        for row, (suffix, (height, width)) in enumerate(grids.items()):
            folder = MODELS / (name + suffix)
            timm.models.save_for_hf(model, folder, model_args=merged, safe_serialization=True)
            path = folder / "model.safetensors"
            halves = {key: value.to(torch.bfloat16) for key, value in load_file(path).items()}
            save_file(halves, path)
            capture = Capture(model.blocks)
            for block in model.blocks:
                capture.attention(attention_modules(block)[0].attn_drop)
            image = images[row][None]
            with torch.no_grad():
                tokens = model.forward_features(image)
                expected = dict(features=model.forward_head(tokens, pre_logits=True))
                expected = dict(logits=model.forward_head(tokens)) | expected
            # Alone without a mask, or among others with one: the same numbers.
            torch.testing.assert_close(expected["logits"], together[row : row + 1], rtol=1e-4, atol=1e-5)
            write(folder, dict(pixel_values=image), expected | capture.states())
            for block in model.blocks:
                for module in [block, *block.modules()]:
                    module._forward_hooks.clear()
                    module._forward_pre_hooks.clear()

    return make


def cases():
    vision = lambda **more: hf.Siglip2VisionConfig(
        **{key: value for key, value in TINY.items() if key != "image_size"} | dict(num_patches=16) | more
    )
    wide, tall = {"_wide": GRIDS["_wide"]}, TALL
    return dict(
        hf_siglip2_vision=siglip2(hf.Siglip2VisionModel, vision(), GRIDS, container="bfloat16"),
        hf_siglip2_both_towers=siglip2(
            hf.Siglip2Model, hf.Siglip2Config(vision_config=vision().to_dict(), text_config=TINY_TEXT), wide, "bfloat16"
        ),
        hf_siglip2_classifier=siglip2(
            hf.Siglip2ForImageClassification, hf.Siglip2Config(vision_config=vision().to_dict(), **LABELS), tall, "bfloat16"
        ),
        timm_naflex=naflexvit("naflexvit_base_patch16_gap", wide),
        timm_naflex_square=naflexvit("naflexvit_base_patch16_par_gap", wide, qk_norm=True),
        timm_naflex_map=naflexvit(
            "naflexvit_base_patch16_siglip", tall, class_token=True, pre_norm=True, pos_embed_interp_mode="bilinear"
        ),
    )
