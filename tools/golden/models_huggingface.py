"""Cases in the Hugging Face layout, saved by `save_pretrained`."""

import importlib
import json
import logging
from types import SimpleNamespace

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from common import MODELS, Capture, additive, patch_mask, pixels, randomize, seeded, write

hf.utils.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()
logging.disable(logging.WARNING)

TINY = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=32, patch_size=8
)
# DINOv2 derives its MLP width from a ratio.
TINY_DINO = {key: value for key, value in TINY.items() if key != "intermediate_size"} | dict(mlp_ratio=2)
TINY_TEXT = dict(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9, max_position_embeddings=4
)
TINY_DECODER = dict(
    decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=8
)
LABELS = dict(id2label={index: f"class {index}" for index in range(5)}, label2id={f"class {i}": i for i in range(5)})


def blocks_of(model):
    for module in model.modules():
        for name in ["layers", "layer", "blocks"]:
            found = getattr(module, name, None)
            if isinstance(found, torch.nn.ModuleList):
                return found
    raise LookupError("no blocks")


def attention_of(block):
    return getattr(block, "self_attn", None) or block.attention


def processor(model_type):
    size = {"height": 32, "width": 32}
    if model_type.startswith("clip"):
        return hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    if model_type.startswith("siglip"):
        return hf.SiglipImageProcessor(size=size)
    if model_type == "deit":
        return hf.DeiTImageProcessor(size={"height": 36, "width": 36}, crop_size=size)
    if model_type.startswith("dinov2"):
        return hf.BitImageProcessor(
            size={"shortest_edge": 36},
            crop_size=size,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        )
    if model_type in ("beit", "data2vec-vision"):
        return hf.BeitImageProcessor(size=size)
    if model_type == "dinov3_vit":
        return hf.DINOv3ViTImageProcessor(size=size)
    return hf.ViTImageProcessor(size=size)


def with_mask(model, bias, run):
    """Runs with `bias` added to the attention logits of every block, by wrapping the library's eager attention."""
    module = importlib.import_module(type(blocks_of(model)[0]).__module__)
    original = module.eager_attention_forward

    def masked(self, query, key, value, attention_mask, **kwargs):
        # BEiT's relative positions come this way, too.
        added = bias if attention_mask is None else bias + attention_mask
        return original(self, query, key, value, added, **kwargs)

    module.eager_attention_forward = masked
    try:
        return run()
    finally:
        module.eager_attention_forward = original


def features_of(model, output, last_hidden_state):
    """`features` as the contract defines them."""
    kind = type(model).__name__
    if kind == "CLIPVisionModelWithProjection":
        return model.vision_model.post_layernorm(last_hidden_state[:, 0])
    if kind == "SiglipForImageClassification":
        return last_hidden_state.mean(1)
    if kind == "CLIPForImageClassification":
        return last_hidden_state[:, 1:].mean(1)
    if kind == "Dinov2ForImageClassification":
        return torch.cat([last_hidden_state[:, 0], last_hidden_state[:, 1:].mean(1)], 1)
    if kind == "Dinov2WithRegistersForImageClassification":
        patches = last_hidden_state[:, 1 + model.config.num_register_tokens :]
        return torch.cat([last_hidden_state[:, 0], patches.mean(1)], 1)
    if kind == "BeitForImageClassification":
        return model.beit.pooler(last_hidden_state)
    if kind == "Data2VecVisionForImageClassification":
        return model.data2vec_vision.pooler(last_hidden_state)
    if kind == "BeitForMaskedImageModeling":
        return model.layernorm(last_hidden_state)[:, 0]
    if kind == "DeiTForImageClassificationWithTeacher":
        return last_hidden_state[:, :2].mean(1)
    pooled = getattr(output, "pooler_output", None)
    return last_hidden_state[:, 0] if pooled is None else pooled


def logits_of(output):
    logits = getattr(output, "logits", None)
    return getattr(output, "image_embeds", None) if logits is None else logits


def container_of(folder, kind, model):
    """Rewrites `model.safetensors` as another container or type. The weights are exact in bfloat16."""
    if kind not in ("bfloat16", "pytorch", "memory names", "no pooler"):
        return
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if kind == "bfloat16":
        save_file({key: value.to(torch.bfloat16) for key, value in tensors.items()}, path, metadata={"format": "pt"})
    elif kind == "memory names":
        save_file(model.state_dict(), path, metadata={"format": "pt"})
    elif kind == "no pooler":
        kept = {key: value for key, value in tensors.items() if not key.startswith("pooler.")}
        save_file(kept, path, metadata={"format": "pt"})
        model.pooler = None
    elif kind == "pytorch":
        path.unlink()
        torch.save(tensors, folder / "pytorch_model.bin")


def case(model_class, config, size=(32, 32), masked=False, edit=None, container=None, **call):
    def make(name):
        generator = seeded(name)
        torch.manual_seed(0)
        model = model_class._from_config(config, attn_implementation="eager").eval()
        randomize(model, generator)
        folder = MODELS / name
        model.save_pretrained(folder, **(dict(max_shard_size="15KB") if container == "sharded" else {}))
        container_of(folder, container, model)
        processor(config.model_type).save_pretrained(folder)
        if edit:
            path = folder / "config.json"
            path.write_text(json.dumps(edit(json.loads(path.read_text())), indent=2) + "\n")
        vision = getattr(config, "vision_config", config)
        patch = vision.patch_size if isinstance(vision.patch_size, (list, tuple)) else (vision.patch_size,) * 2
        inputs = dict(pixel_values=pixels(generator, 2, vision.num_channels, *size))
        grid = (size[0] // patch[0], size[1] // patch[1])

        blocks = blocks_of(getattr(model, "vision_model", model))
        capture = Capture(blocks)
        for block in blocks:
            capture.attention(attention_of(block), lambda args, out: out[1])
        # The encoder's own result gives the tokens after the final norm.
        last = []
        for module in model.modules():
            ends = ("ViTModel", "DeiTModel", "Dinov2Model", "RegistersModel", "MSNModel", "MAEModel", "BeitModel", "VecVisionModel")
            if type(module).__name__.endswith(ends) or type(module).__name__ in ("CLIPVisionModel", "CLIPVisionTransformer", "SiglipVisionModel", "SiglipVisionTransformer"):
                module.register_forward_hook(lambda _, __, out: last.append(out.last_hidden_state))

        def run():
            with torch.no_grad():
                if type(model) is hf.CLIPModel:
                    pooled = model.vision_model(inputs["pixel_values"]).pooler_output
                    return SimpleNamespace(pooler_output=pooled, image_embeds=model.visual_projection(pooled))
                if type(model) is hf.ViTForMaskedImageModeling:
                    return model.vit(inputs["pixel_values"])
                if type(model) is hf.BeitForMaskedImageModeling:
                    return model.beit(inputs["pixel_values"])
                if type(model) in (hf.ViTMAEModel, hf.ViTMAEForPreTraining):
                    # No patch is left out, and their order stays.
                    model.config.mask_ratio = 0.0
                    noise = torch.arange(grid[0] * grid[1]).float().expand(2, -1)
                    return getattr(model, "vit", model)(inputs["pixel_values"], noise=noise, **call)
                if type(model) is hf.SiglipModel:
                    return model.vision_model(inputs["pixel_values"])
                return model(inputs["pixel_values"], **call)

        if masked:
            inputs["mask"] = patch_mask(generator, 2, *grid)
            run()
            prefix = capture.hidden[0].shape[1] - grid[0] * grid[1]
            for kept in [capture.hidden, capture.attentions, last]:
                kept.clear()
            output = with_mask(model, additive(inputs["mask"], prefix), run)
        else:
            output = run()
        expected = dict(features=features_of(model, output, last[-1]))
        logits = logits_of(output)
        if logits is not None:
            expected = dict(logits=logits) | expected
        write(folder, inputs, expected | capture.states())

    return make


def older(config):
    """A configuration as early releases of the library wrote it: fewer keys, labels as strings."""
    for key in ["dtype", "transformers_version", "pooler_act", "pooler_output_size", "encoder_stride", "qkv_bias"]:
        config.pop(key, None)
    return config | {"torch_dtype": "float32", "transformers_version": "4.6.0.dev0"}


def cases():
    vit = lambda **more: hf.ViTConfig(**TINY | more)
    deit = lambda **more: hf.DeiTConfig(**TINY | more)
    dino = lambda **more: hf.Dinov2Config(**TINY_DINO | more)
    registers = lambda **more: hf.Dinov2WithRegistersConfig(**TINY_DINO | dict(num_register_tokens=3) | more)
    clip = lambda **more: hf.CLIPVisionConfig(**TINY | dict(projection_dim=7) | more)
    siglip = lambda **more: hf.SiglipVisionConfig(**TINY | more)
    dino3 = lambda **more: hf.DINOv3ViTConfig(**TINY | dict(num_register_tokens=3) | more)
    beit = lambda **more: hf.BeitConfig(**TINY | dict(use_relative_position_bias=True) | more)
    shared = dict(use_relative_position_bias=False, use_shared_relative_position_bias=True)
    vec = lambda **more: hf.Data2VecVisionConfig(**TINY | dict(use_relative_position_bias=True) | more)
    larger = dict(size=(48, 24), interpolate_pos_encoding=True)
    return dict(
        hf_vit_masked_images=case(hf.ViTForMaskedImageModeling, hf.ViTConfig(**TINY, encoder_stride=8)),
        hf_mae_model=case(hf.ViTMAEModel, hf.ViTMAEConfig(**TINY)),
        hf_mae_pretraining=case(hf.ViTMAEForPreTraining, hf.ViTMAEConfig(**TINY, **TINY_DECODER)),
        hf_mae_other_size=case(
            hf.ViTMAEModel, hf.ViTMAEConfig(**TINY), size=(48, 24), interpolate_pos_encoding=True
        ),
        hf_vit_model=case(hf.ViTModel, vit()),
        hf_vit_model_narrow_pooler=case(hf.ViTModel, vit(pooler_output_size=10, qkv_bias=False)),
        hf_vit_model_relu_pooler=case(hf.ViTModel, vit(pooler_act="relu"), container="bfloat16"),
        hf_deit_model_gelu_pooler=case(
            hf.DeiTModel, deit(pooler_act="gelu_new", pooler_output_size=10), container="bfloat16"
        ),
        hf_vit_model_without_pooler=case(hf.ViTModel, vit(), container="no pooler"),
        hf_vit_memory_names=case(hf.ViTForImageClassification, vit(**LABELS), container="memory names"),
        hf_dinov2_memory_names=case(hf.Dinov2Model, dino(use_swiglu_ffn=True), container="memory names"),
        hf_vit_classifier=case(hf.ViTForImageClassification, vit(**LABELS)),
        hf_vit_sharded=case(hf.ViTForImageClassification, vit(**LABELS), container="sharded"),
        hf_vit_pytorch_bin=case(hf.ViTForImageClassification, vit(**LABELS), container="pytorch"),
        hf_vit_bfloat16=case(hf.ViTForImageClassification, vit(**LABELS), container="bfloat16"),
        hf_vit_classifier_old_config=case(hf.ViTForImageClassification, vit(**LABELS), edit=older),
        hf_vit_gelu_new=case(hf.ViTForImageClassification, vit(hidden_act="gelu_new", **LABELS)),
        hf_vit_gelu_pytorch_tanh=case(
            hf.ViTForImageClassification, vit(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, **LABELS)
        ),
        hf_vit_other_size=case(hf.ViTForImageClassification, vit(**LABELS), **larger),
        hf_vit_rectangular=case(
            hf.ViTForImageClassification, vit(image_size=[24, 40], patch_size=[8, 10], **LABELS), size=(24, 40)
        ),
        hf_vit_one_channel=case(hf.ViTForImageClassification, vit(num_channels=1, **LABELS)),
        hf_vit_masked=case(hf.ViTForImageClassification, vit(**LABELS), masked=True),
        hf_deit_model=case(hf.DeiTModel, deit()),
        hf_deit_classifier=case(hf.DeiTForImageClassification, deit(**LABELS)),
        hf_deit_teacher=case(hf.DeiTForImageClassificationWithTeacher, deit(**LABELS)),
        hf_deit_teacher_masked=case(hf.DeiTForImageClassificationWithTeacher, deit(**LABELS), masked=True),
        hf_deit_other_size=case(hf.DeiTForImageClassificationWithTeacher, deit(**LABELS), **larger),
        hf_dinov2_model=case(hf.Dinov2Model, dino()),
        hf_dinov2_classifier=case(hf.Dinov2ForImageClassification, dino(**LABELS)),
        hf_dinov2_swiglu=case(hf.Dinov2ForImageClassification, dino(use_swiglu_ffn=True, **LABELS)),
        hf_dinov2_other_size=case(hf.Dinov2Model, dino(), size=(40, 24)),
        hf_dinov2_registers_model=case(hf.Dinov2WithRegistersModel, registers()),
        hf_dinov2_registers_classifier=case(hf.Dinov2WithRegistersForImageClassification, registers(**LABELS)),
        hf_dinov2_registers_other_size=case(hf.Dinov2WithRegistersModel, registers(), size=(24, 48)),
        hf_dinov2_registers_masked=case(hf.Dinov2WithRegistersForImageClassification, registers(**LABELS), masked=True),
        hf_dinov3_model=case(hf.DINOv3ViTModel, dino3()),
        hf_dinov3_gated=case(hf.DINOv3ViTModel, dino3(use_gated_mlp=True, hidden_act="silu", num_register_tokens=0)),
        hf_dinov3_other_size=case(hf.DINOv3ViTModel, dino3(rope_theta=37.0), size=(24, 48)),
        hf_dinov3_key_bias=case(hf.DINOv3ViTModel, dino3(key_bias=True)),
        hf_dinov3_no_biases=case(
            hf.DINOv3ViTModel, dino3(query_bias=False, value_bias=False, proj_bias=False, mlp_bias=False)
        ),
        hf_dinov3_masked=case(hf.DINOv3ViTModel, dino3(), masked=True),
        hf_dinov3_memory_names=case(hf.DINOv3ViTModel, dino3(use_gated_mlp=True), container="memory names"),
        hf_beit_model=case(hf.BeitModel, beit()),
        hf_beit_classifier=case(hf.BeitForImageClassification, beit(layer_norm_eps=1e-6, **LABELS)),
        hf_beit_shared=case(hf.BeitModel, beit(use_absolute_position_embeddings=True, use_mask_token=True, **shared)),
        hf_beit_class_token=case(
            hf.BeitForImageClassification, beit(use_mean_pooling=False, layer_scale_init_value=0.0, **LABELS)
        ),
        hf_beit_other_size=case(
            hf.BeitForImageClassification, beit(use_absolute_position_embeddings=True, **LABELS), size=(48, 24)
        ),
        hf_beit_memory_names=case(
            hf.BeitModel, beit(use_shared_relative_position_bias=True), size=(24, 56), container="memory names"
        ),
        hf_beit_masked=case(hf.BeitForImageClassification, beit(**LABELS), masked=True),
        hf_beit_masked_images=case(hf.BeitForMaskedImageModeling, beit(vocab_size=6, use_mask_token=True, **shared)),
        hf_data2vec=case(hf.Data2VecVisionForImageClassification, vec(**LABELS), output_attentions=True),
        hf_data2vec_other_size=case(
            hf.Data2VecVisionModel, vec(use_absolute_position_embeddings=True), size=(24, 48), output_attentions=True
        ),
        hf_clip_vision=case(hf.CLIPVisionModel, clip()),
        hf_clip_vision_projection=case(hf.CLIPVisionModelWithProjection, clip()),
        hf_clip_vision_other_size=case(hf.CLIPVisionModelWithProjection, clip(), **larger),
        hf_clip_classifier=case(
            hf.CLIPForImageClassification, hf.CLIPConfig(vision_config=clip().to_dict(), **LABELS)
        ),
        hf_clip_both_towers=case(
            hf.CLIPModel, hf.CLIPConfig(vision_config=clip().to_dict(), text_config=TINY_TEXT, projection_dim=7)
        ),
        hf_siglip_vision=case(hf.SiglipVisionModel, siglip()),
        hf_siglip_both_towers=case(
            hf.SiglipModel, hf.SiglipConfig(vision_config=siglip().to_dict(), text_config=TINY_TEXT)
        ),
        hf_siglip_classifier=case(
            hf.SiglipForImageClassification, hf.SiglipConfig(vision_config=siglip().to_dict(), **LABELS)
        ),
        hf_siglip_other_size=case(hf.SiglipVisionModel, siglip(), **larger),
        hf_msn_model=case(hf.ViTMSNModel, hf.ViTMSNConfig(**TINY)),
        hf_msn_classifier=case(hf.ViTMSNForImageClassification, hf.ViTMSNConfig(**TINY, **LABELS)),
    )
